"""The keys of credentials, derived from CREDENTIALS_SECRETS by HKDF (RFC 5869), one for each use.

The first secret makes device tokens, counters and the marks in log lines. All of them verify device tokens, so that a
secret can be replaced: put the new one first, and drop the old one when its tokens have expired. Counters begin anew.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: The length that the SHA-256 which uses them has.
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True, repr=False)
class CredentialKeys:
    """A key for each use."""

    #: The first signs, all verify.
    device_tokens: tuple[bytes, ...]
    _counters: bytes
    _marks: bytes

    @classmethod
    def derive(cls, secrets: Sequence[str]) -> CredentialKeys:
        """Derive them; at least one secret must be given."""
        first = secrets[0]
        return cls(
            device_tokens=tuple(_derive(secret, "device tokens") for secret in secrets),
            _counters=_derive(first, "counters"),
            _marks=_derive(first, "log lines"),
        )

    def counter(self, kind: str, text: str) -> bytes:
        """The 32 bytes by which a counter is found."""
        return hmac.digest(self._counters, f"{kind}\0{text}".encode(), sha256)

    def mark(self, identifier_key: str) -> str:
        """The mark that stands in a log line for an identifier: 32 hex digits, the same for the same key."""
        return hmac.digest(self._marks, identifier_key.encode(), sha256).hex()[:32]


def _derive(secret: str, purpose: str) -> bytes:
    return HKDF(SHA256(), _KEY_BYTES, salt=None, info=f"muster credentials: {purpose}".encode()).derive(secret.encode())
