"""Idempotency-Key: the same request again gets the same answer again, and the command runs once.

Across processes the record's unique digest decides, in the command's own transaction. Within a process duplicates wait
for the first before they do anything, so that twenty impatient retries cost one hash of one password.

Source: draft-ietf-httpapi-idempotency-key-header-07, The Idempotency-Key HTTP Header Field.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Final

KEY_CHARACTERS: Final = 255
#: How long a duplicate waits for the first: a registration takes well under a second, most of it the hash.
WAIT_SECONDS: Final = 5.0
REPLAYED_HEADER: Final = "Idempotent-Replayed"
#: What a duplicate that waited in vain is told to wait.
RETRY_AFTER_SECONDS: Final = 1


class InvalidKeyError(ValueError):
    """The header cannot be a key."""


class KeyInUseError(Exception):
    """The first request with this key is still running."""


class KeyReusedError(Exception):
    """The key came before with another request."""


class KeySubjectErasedError(Exception):
    """The person whom the stored answer was about has been erased."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key within its scope, and the request it came with, both as HMACs."""

    digest: bytes
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command answers; stored as it is where a key was sent."""

    status: int
    headers: dict[str, str]
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer that was stored, and the fingerprint of its request: None once the subject was erased."""

    answer: Answer
    fingerprint: bytes | None

    def replay(self, key: IdempotencyKey) -> Answer:
        """The answer, marked as replayed, where this is the request it was stored for.

        Raises:
            KeySubjectErasedError: the subject is gone, and what was said of it too.
            KeyReusedError: it was stored for another request.
        """
        if self.fingerprint is None:
            raise KeySubjectErasedError
        if not hmac.compare_digest(self.fingerprint, key.fingerprint):
            raise KeyReusedError
        return replace(self.answer, headers={**self.answer.headers, REPLAYED_HEADER: "true"})


class Keys:
    """Makes keys from headers, with the secret that no table knows."""

    def __init__(self, secret: str) -> None:
        """Digests and fingerprints get keys of their own, so that one can never pass for the other."""
        self._digest_key = hmac.digest(secret.encode(), b"muster idempotency digest", "sha256")
        self._fingerprint_key = hmac.digest(secret.encode(), b"muster idempotency fingerprint", "sha256")

    def make(self, header: str, *, method: str, path: str, body: bytes, if_match: str | None) -> IdempotencyKey:
        """The key of one request; method and path are its scope.

        Raises:
            InvalidKeyError: the header is empty or too long.
        """
        scope = _joined(method.encode(), path.encode(), read_key(header).encode())
        request = _joined(canonical_json(body), b"" if if_match is None else b"=" + if_match.encode())
        return IdempotencyKey(
            digest=hmac.digest(self._digest_key, scope, "sha256"),
            fingerprint=hmac.digest(self._fingerprint_key, request, "sha256"),
        )


def read_key(header: str) -> str:
    """The key in the header; quoted (as the draft has it) or bare is the same key.

    Raises:
        InvalidKeyError: it is empty or too long.
    """
    key = header.strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1].replace('\\"', '"').replace("\\\\", "\\")
    if not key.strip('" '):
        raise InvalidKeyError("is empty; leave it out, or send something unique such as a UUID")
    if len(key) > KEY_CHARACTERS:
        raise InvalidKeyError(f"has {len(key)} characters, {KEY_CHARACTERS} at most; a UUID is enough")
    return key


def canonical_json(body: bytes) -> bytes:
    """The body without what JSON does not distinguish: spaces, the order of names, escapes."""
    try:
        return json.dumps(json.loads(body), sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return body  # no route of ours takes it; an erasure, which takes no body, must not fail on one


def _joined(*parts: bytes) -> bytes:
    """The parts behind their lengths, so that no two lists of parts are the same bytes."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Turns:
    """Duplicates within this process, one after the other."""

    def __init__(self) -> None:
        """Nobody waits yet."""
        self._turns: dict[bytes, _Turn] = {}

    @asynccontextmanager
    async def take(self, key: IdempotencyKey | None) -> AsyncIterator[None]:
        """Hold the turn of this key for the block; without a key there is nothing to wait for.

        Raises:
            KeyInUseError: the one before did not end within WAIT_SECONDS.
        """
        if key is None:
            yield
            return
        turn = self._turns.setdefault(key.digest, _Turn())
        turn.users += 1
        try:
            await _acquire(turn.lock)
            try:
                yield
            finally:
                turn.lock.release()
        finally:
            turn.users -= 1
            if not turn.users:
                del self._turns[key.digest]


async def _acquire(lock: asyncio.Lock) -> None:
    try:
        await asyncio.wait_for(lock.acquire(), WAIT_SECONDS)
    except TimeoutError:
        raise KeyInUseError from None
