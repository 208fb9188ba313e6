"""Positions: how far a client has read, as a text that only we can make.

A position names the topic by its id, the next offset of each partition, and a time before which everything has been
read. A client keeps it and gives it back, whatever happened meanwhile; it fits any filter.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from uuid import UUID

#: The first byte: the form can change, and no old position is misread.
_FORM: Final = 1
#: The form, the topic's id, and seconds since 1970; the offsets follow, 8 bytes each.
_HEAD: Final = struct.Struct(">B16sQ")
_OFFSET_BYTES: Final = 8
#: The HMAC has so many: nobody guesses 128 bits, and a position of 12 partitions stays within 200 characters.
_SIGNATURE_BYTES: Final = 16
#: A longer text is not looked at: a topic of a thousand partitions has 11 KiB.
_MOST_CHARACTERS: Final = 16 * 1024

Offsets = tuple[int, ...]


class InvalidPositionError(ValueError):
    """The text is no position that one of our secrets has signed."""


@dataclass(frozen=True, slots=True)
class LogPosition:
    """The place up to which a client has read."""

    topic_id: UUID
    #: Seconds since 1970: whatever was on the topic then has been read, or was before the client began.
    seen: int
    #: The next offset of each partition, in their order.
    offsets: Offsets


class PositionSeal:
    """Signs positions with the first of its secrets, and trusts all of them."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """At least one must be given."""
        self._keys = [sha256(b"muster positions\0" + secret.encode()).digest() for secret in secrets]

    def seal(self, position: LogPosition) -> str:
        """The text of a position: letters, digits, `-` and `_`; 183 characters for 12 partitions."""
        raw = _HEAD.pack(_FORM, position.topic_id.bytes, position.seen)
        raw += struct.pack(f">{len(position.offsets)}Q", *position.offsets)
        return base64.urlsafe_b64encode(raw + _signature(self._keys[0], raw)).rstrip(b"=").decode("ascii")

    def open(self, text: str) -> LogPosition:
        """The position that a text of ours names.

        Raises:
            InvalidPositionError: it is none, or its secret has gone.
        """
        raw, signature = _parts(text)
        if not any(hmac.compare_digest(_signature(key, raw), signature) for key in self._keys):
            raise InvalidPositionError("is no position of this service, or its secret is not known any more")
        _, topic_id, seen = _HEAD.unpack_from(raw)
        offsets = struct.unpack_from(f">{(len(raw) - _HEAD.size) // _OFFSET_BYTES}Q", raw, _HEAD.size)
        return LogPosition(UUID(bytes=topic_id), seen, offsets)


def _parts(text: str) -> tuple[bytes, bytes]:
    """The signed part, and the signature."""
    try:
        if len(text) > _MOST_CHARACTERS:
            raise ValueError(text[:16])  # noqa: TRY301 - one answer to all that is wrong
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidPositionError("is no position of this service") from error
    signed, signature = raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
    if len(signed) < _HEAD.size or (len(signed) - _HEAD.size) % _OFFSET_BYTES or signed[0] != _FORM:
        raise InvalidPositionError("is no position of this service")
    return signed, signature


def _signature(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, "sha256")[:_SIGNATURE_BYTES]
