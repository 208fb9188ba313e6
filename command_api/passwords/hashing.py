"""Hashing passwords: Argon2id in threads of their own, as many as there are cores, with a bounded queue before them.

The event loop never hashes, and nobody holds a database connection or a lock while waiting for a hash. Hashing releases
the interpreter's lock, so more threads than cores would only make every hash slower.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar
from unicodedata import normalize

from argon2 import PasswordHasher
from pydantic import SecretStr

from command_api.passwords.formats import verify

T = TypeVar("T")


class HashingBusyError(Exception):
    """More passwords wait to be hashed than this process takes."""


class Passwords:
    """Hashes and checks passwords."""

    def __init__(self, hasher: PasswordHasher, *, threads: int, queue: int) -> None:
        """Use `open`, which also ends the threads."""
        self._hasher = hasher
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._threads = threads
        self._limit = threads + queue
        self._pending = 0

    @classmethod
    @contextmanager
    def open(cls, hasher: PasswordHasher, *, threads: int, queue: int) -> Iterator[Passwords]:
        """Hash in `threads` until the block ends; up to `queue` more passwords may wait for one of them."""
        passwords = cls(hasher, threads=threads, queue=queue)
        try:
            yield passwords
        finally:
            passwords._executor.shutdown(wait=True, cancel_futures=True)

    async def hash(self, password: SecretStr) -> str:
        """The password's Argon2id hash in PHC form, parameters and salt included.

        Raises:
            HashingBusyError: too many wait already.
        """
        text = _canonical(password)
        return await self._run(lambda: self._hasher.hash(text))

    async def matches(self, password: SecretStr, password_hash: str) -> bool:
        """Whether this is the password of that hash, whichever accepted form the hash has.

        Raises:
            HashingBusyError: too many wait already.
        """
        text = _canonical(password)
        return await self._run(lambda: verify(text, password_hash))

    async def hash_all(self, given: Sequence[SecretStr]) -> list[str]:
        """The hashes of many, in order; the queue does not limit them, and one runs a thread.

        Others' hashes go in between, so that nobody waits for more than one hash of an import.
        """
        texts = iter(list(enumerate(map(_canonical, given))))
        hashes = [""] * len(given)

        async def work() -> None:
            for index, text in texts:
                hashes[index] = await self._in_thread(lambda text=text: self._hasher.hash(text))  # type: ignore[misc]

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._threads, len(given))):
                group.create_task(work())
        return hashes

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._pending >= self._limit:
            raise HashingBusyError
        self._pending += 1
        try:
            return await self._in_thread(work)
        finally:
            self._pending -= 1


def _canonical(password: SecretStr) -> str:
    """NFC: the same password typed on another keyboard has the same code points."""
    return normalize("NFC", password.get_secret_value())
