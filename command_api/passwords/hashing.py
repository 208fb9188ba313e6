"""Hashing passwords: Argon2id in threads of their own, as many as there are cores, with a bounded queue before them.

The event loop never hashes, and nobody holds a database connection or a lock while waiting for a hash. Hashing releases
the interpreter's lock, so more threads than cores would only make every hash slower.

Checks have as many threads beside those, and a queue of their own. What one costs was chosen by whoever made the hash,
up to a second (formats.py), and up to three where its password has so many spellings; so a crowd of them may slow new
hashes to a half, and no further. Checks for known devices have as much again: a crowd of guessers cannot take their
places.

Nobody's second attempt goes before another's first (lanes.py): guesses at one account keep another's login waiting for
one of them.

What waits is dropped, when its turn comes, where nobody waits for it any more; so queues end soon with the process.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from unicodedata import normalize

from argon2 import PasswordHasher
from prometheus_client import Counter
from pydantic import SecretStr

from command_api.passwords.formats import needs_rehash, verify
from command_api.passwords.lanes import Lane

#: Checks that may wait for each of their threads: half a second of ours. Fewer would turn people away who come at once.
CHECKS_WAITING: Final = 32


#: Foreign ones cost what others chose, and become fewer as their users log in.
_CHECKS: Final = Counter("muster_password_checks_total", "Hashes computed to check a password.", ["form"])


@dataclass(frozen=True, slots=True)
class Room:
    """The groups of callers whose checks would find a place now."""

    known_devices: bool
    others: bool


class Passwords:
    """Hashes and checks passwords."""

    def __init__(self, hasher: PasswordHasher, *, threads: int, queue: int) -> None:
        """Use `open`, which also ends the threads."""
        self._hasher = hasher
        self._threads = threads
        self._hashes = Lane("argon2", threads, queue)
        waiting = _checks_waiting(threads, queue)
        self._checks = Lane("check", threads, waiting)
        self._known_devices = Lane("known device", threads, waiting)
        self._nobodys = hasher.hash(secrets.token_urlsafe())

    @classmethod
    @contextmanager
    def open(cls, hasher: PasswordHasher, *, threads: int, queue: int) -> Iterator[Passwords]:
        """Hash in `threads` until the block ends; up to `queue` more passwords may wait for one of them."""
        passwords = cls(hasher, threads=threads, queue=queue)
        try:
            yield passwords
        finally:
            passwords._hashes.end()
            passwords._checks.end()
            passwords._known_devices.end()

    async def hash(self, password: SecretStr) -> str:
        """The password's Argon2id hash in PHC form, parameters and salt included.

        Raises:
            HashingBusyError: too many wait already.
        """
        text = _canonical(password)
        return await self._hashes.run(lambda: self._hasher.hash(text), whose=object())

    async def matches(
        self, password: SecretStr, password_hash: str | None, whose: Hashable, *, known_device: bool = False
    ) -> bool:
        """Whether this is the password of that hash, whichever accepted form the hash has.

        For one of ours, with the current parameters, exactly one hash is computed, and so for None, which is nobody's.
        Others, imported ones always, may have been made of the text as it was typed, or of its NFKC: for them up to
        three are, fewer where these texts are the same. Whoever comes from a known device waits in a queue of their
        own. In each, of the attempts that are `whose` the second waits for the first of all others.

        Raises:
            HashingBusyError: too many wait already; no hash was computed.
        """
        checked = self._nobodys if password_hash is None else password_hash
        foreign = self.is_outdated(checked)
        spellings = _spellings(password) if foreign else [_canonical(password)]
        lane = self._known_devices if known_device else self._checks
        found = await lane.run(lambda: any(_check(text, checked, foreign=foreign) for text in spellings), whose)
        return found and password_hash is not None

    def is_outdated(self, password_hash: str) -> bool:
        """Whether `hash` would write it otherwise, in another form or with other parameters."""
        return needs_rehash(password_hash, self._hasher)

    def room(self) -> Room:
        """The groups of callers whose checks would find a place now."""
        return Room(known_devices=self._known_devices.has_room(), others=self._checks.has_room())

    async def hash_all(self, given: Sequence[SecretStr]) -> list[str]:
        """The hashes of many, in order; the queue does not limit them, and one runs a thread.

        Others' hashes go in between, so that nobody waits for more than one hash of an import.
        """
        texts = iter(list(enumerate(map(_canonical, given))))
        hashes = [""] * len(given)
        whose = object()

        async def work() -> None:
            for index, text in texts:
                hashes[index] = await self._hashes.run_uncounted(lambda text=text: self._hasher.hash(text), whose)  # type: ignore[misc]

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._threads, len(given))):
                group.create_task(work())
        return hashes


def places(*, threads: int, queue: int) -> int:
    """The number of hashes and checks that may run or wait, imports' aside, with these `threads` and this `queue`."""
    return threads + queue + 2 * (threads + _checks_waiting(threads, queue))


def _checks_waiting(threads: int, queue: int) -> int:
    return min(queue, CHECKS_WAITING * threads)


def _check(text: str, password_hash: str, *, foreign: bool) -> bool:
    _CHECKS.labels("foreign" if foreign else "own").inc()
    return verify(text, password_hash)


def _canonical(password: SecretStr) -> str:
    """NFC: the same password typed on another keyboard has the same code points."""
    return normalize("NFC", password.get_secret_value())


def _spellings(password: SecretStr) -> Iterable[str]:
    """The texts that somebody else may have made a hash of, each once: as it is, NFC, NFKC."""
    text = password.get_secret_value()
    return dict.fromkeys((text, normalize("NFC", text), normalize("NFKC", text)))
