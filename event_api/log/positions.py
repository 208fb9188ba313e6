"""Positions: how far a client has read, as a text that only we can make.

A position names the topic by its id, the next offset of each partition, a time before which everything has been read,
one after which nothing of that was appended, and whether a filter has left erasures out of it. A client keeps it and
gives it back, whatever happened meanwhile; it fits any filter.
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

#: The forms: of a version before, which told no newest time; and of all erasures, or not of all.
_TIMELESS, _WHOLE, _LACKING = 1, 2, 3
_WITH_NEWEST: Final = struct.Struct(">B16sQQ")
#: By the first byte, the form: that, the topic's id, seconds since 1970, and since form 2 the newest record's time in
#: milliseconds; the offsets follow, 8 bytes each. No old position is misread.
_HEADS: Final = {_TIMELESS: struct.Struct(">B16sQ"), _WHOLE: _WITH_NEWEST, _LACKING: _WITH_NEWEST}
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
    #: Milliseconds since 1970, by the brokers: nothing before the offsets was appended later. None in a position of a
    #: version before, which had no such time.
    newest: int | None = None
    #: Whether a filter kept erasures before the offsets from the client; false in a position of a version before.
    lacks_erasures: bool = False


class PositionSeal:
    """Signs positions with the first of its secrets, and trusts all of them."""

    def __init__(self, secrets: Sequence[str]) -> None:
        """At least one must be given."""
        self._keys = [sha256(b"muster positions\0" + secret.encode()).digest() for secret in secrets]

    def seal(self, position: LogPosition) -> str:
        """The text of a position: letters, digits, `-` and `_`; 194 characters for 12 partitions."""
        times = (position.seen,) if position.newest is None else (position.seen, position.newest)
        form = _LACKING if position.lacks_erasures else len(times)
        raw = _HEADS[form].pack(form, position.topic_id.bytes, *times)
        raw += struct.pack(f">{len(position.offsets)}Q", *position.offsets)
        return _encode(raw + _signature(self._keys[0], raw))

    def open(self, text: str) -> LogPosition:
        """The position that a text of ours names.

        Raises:
            InvalidPositionError: it is none, or its secret has gone.
        """
        raw, signature = _parts(text)
        if not any(hmac.compare_digest(_signature(key, raw), signature) for key in self._keys):
            raise InvalidPositionError("is no position of this service, or its secret is not known any more")
        head = _HEADS[raw[0]]
        _, topic_id, seen, *newest = head.unpack_from(raw)
        offsets = struct.unpack_from(f">{(len(raw) - head.size) // _OFFSET_BYTES}Q", raw, head.size)
        known = newest[0] if newest else None
        return LogPosition(UUID(bytes=topic_id), seen, offsets, known, lacks_erasures=raw[0] == _LACKING)


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _parts(text: str) -> tuple[bytes, bytes]:
    """The signed part, and the signature."""
    try:
        if len(text) > _MOST_CHARACTERS:
            raise ValueError(text[:16])  # noqa: TRY301 - one answer to all that is wrong
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidPositionError("is no position of this service") from error
    signed, signature = raw[:-_SIGNATURE_BYTES], raw[-_SIGNATURE_BYTES:]
    head = _HEADS.get(signed[0]) if signed else None
    # The last character has bits that decoding ignores: only the very text that we wrote is taken.
    if head is None or len(signed) < head.size or (len(signed) - head.size) % _OFFSET_BYTES or _encode(raw) != text:
        raise InvalidPositionError("is no position of this service")
    return signed, signature


def _signature(key: bytes, signed: bytes) -> bytes:
    return hmac.digest(key, signed, "sha256")[:_SIGNATURE_BYTES]
