"""The same request with the same key again: it gets the same answer again, and the command runs once.

Across processes the record's unique digest decides, in the command's own transaction. Within a process duplicates wait
for the first before they do anything, so that twenty impatient retries cost one hash of one password.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from command_api.idempotency.keys import IdempotencyKey

#: A duplicate waits so long for the first: a registration takes well under a second, most of it the hash. Behind one
#: that PostgreSQL does not answer, it is then itself answered within 5 s.
WAIT_SECONDS: Final = 2.5
#: Says that an answer is a stored one; a route that takes no key never has it.
REPLAYED_HEADER: Final = "Idempotent-Replayed"


class KeyInUseError(Exception):
    """The first request with this key is still running."""


class KeyReusedError(Exception):
    """The key came before with another request."""


class KeySubjectErasedError(Exception):
    """The person whom the stored answer was about has been erased."""


class KeysUsedUpError(Exception):
    """As many answers as may be are kept for the caller; `seconds` until there is room for one more."""

    def __init__(self, seconds: int, *, changes: bool) -> None:
        """Keep the seconds, for the answer's Retry-After; `changes` tells whether the command would change anything."""
        why = "this command would change something" if changes else "there is nothing to change"
        super().__init__(f"as many answers to your keys are kept as may be, and {why}; nothing was done")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """The answer to a command; stored as it is where the client sent a key."""

    status: int
    headers: dict[str, str]
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer that was stored, and the fingerprint of its request: None once the subject was erased."""

    answer: CommandAnswer
    fingerprint: bytes | None

    def replay(self, key: IdempotencyKey) -> CommandAnswer:
        """The answer, marked as replayed, where this is the request it was stored for.

        Raises:
            KeySubjectErasedError: the person was erased, and the answer with them.
            KeyReusedError: it was stored for another request.
        """
        if self.fingerprint is None:
            raise KeySubjectErasedError
        if not hmac.compare_digest(self.fingerprint, key.fingerprint):
            raise KeyReusedError
        return replace(self.answer, headers={**self.answer.headers, REPLAYED_HEADER: "true"})


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    #: Requests that hold the lock or wait for it; with the last of them the turn is forgotten.
    requests: int = 0


class Turns:
    """Lets duplicates within this process run one after the other."""

    def __init__(self) -> None:
        """No request runs yet."""
        self._turns: dict[bytes, _Turn] = {}

    @asynccontextmanager
    async def take(self, key: IdempotencyKey) -> AsyncIterator[None]:
        """Hold the turn of this key for the block.

        Raises:
            KeyInUseError: the request before did not end within WAIT_SECONDS.
        """
        turn = self._turns.setdefault(key.digest, _Turn())
        turn.requests += 1
        try:
            await _acquire(turn.lock)
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            turn.requests -= 1
            if not turn.requests:
                del self._turns[key.digest]


async def _acquire(lock: asyncio.Lock) -> None:
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await lock.acquire()
    except TimeoutError:
        raise KeyInUseError from None
