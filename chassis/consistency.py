"""The consistency token: it names a subject (a user) and the version of it that a reader wants to see.

Tokens are opaque to clients, and unsigned: one grants nothing, it only makes a query wait. The command API gives one
with every success; the query API takes it, and gives one for what it showed.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple
from uuid import UUID

#: The first byte: the form can change, and no old token is misread.
_FORM = 1
_ID_BYTES = 16
_MAX_VERSION = 2**63 - 1


class InvalidConsistencyTokenError(ValueError):
    """The text is no consistency token of ours."""


class ConsistencyToken(NamedTuple):
    """A user and the least version that is fresh enough."""

    subject_id: UUID
    version: int

    def encode(self) -> str:
        """The header's text: URL-safe, without padding, 22 to 34 characters."""
        width = (self.version.bit_length() + 7) // 8
        raw = bytes([_FORM]) + self.subject_id.bytes + self.version.to_bytes(width, "big")
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str) -> ConsistencyToken:
        """Read a token.

        Raises:
            InvalidConsistencyTokenError: it is not one of ours.
        """
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidConsistencyTokenError("is not a consistency token") from error
        version = int.from_bytes(raw[1 + _ID_BYTES :], "big")
        if len(raw) <= 1 + _ID_BYTES or raw[0] != _FORM or not 0 < version <= _MAX_VERSION:
            raise InvalidConsistencyTokenError("is not a consistency token")
        return cls(UUID(bytes=raw[1 : 1 + _ID_BYTES]), version)
