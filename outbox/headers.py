"""An event's headers as a Kafka record holds them: encoded when the event is appended, sent unchanged by the relay.

A command has a hundred times longer for it than the relay, which publishes in pages of thousands. The bytes that all
events of a type share are made once. The rest is put together as Latin-1 text, in which one character is one byte.

See docs/decisions/0014. Source: the Kafka protocol guide's "Record" and "Record Header".
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from uuid import UUID

from events.envelope import OPTIONAL_HEADERS, Envelope
from events.times import rfc3339

#: Headers whose values differ from event to event, but not in length; then those that differ in length too.
_FIXED_LENGTH: Final = frozenset({"ce_id", "ce_subject", "ce_time", "ce_sequence"})
_VARIABLE: Final = _FIXED_LENGTH | {"ce_correlationid", "ce_causationid", *OPTIONAL_HEADERS}
#: Stand in where only the length of a value counts.
_ANY_ID: Final = UUID(int=0)
_ANY_TIME: Final = datetime(2026, 1, 1, tzinfo=UTC)


def encode_headers(envelope: Envelope) -> bytes:
    """The number of the envelope's headers, then each with its name and value, in the order of `Envelope.headers`."""
    correlation, causation = _as_latin1(envelope.correlation_id), _as_latin1(envelope.causation_id)
    optional = (envelope.actor, envelope.on_behalf_of, envelope.traceparent)
    to_id, to_subject, to_time, to_sequence, to_correlation, to_causation, *to_optional, rest = _constant_parts(
        envelope.source, envelope.type, tuple(map(bool, optional))
    )
    headers = (
        f"{to_id}{envelope.event_id}{to_subject}{envelope.subject_id}{to_time}{rfc3339(envelope.time)}"
        f"{to_sequence}{envelope.version:020d}{to_correlation}{_length(correlation)}{correlation}"
        f"{to_causation}{_length(causation)}{causation}"
    )
    for to_value, value in zip(to_optional, filter(None, optional), strict=True):
        text = _as_latin1(value)
        headers = f"{headers}{to_value}{_length(text)}{text}"
    return f"{headers}{rest}".encode("latin-1")


def headers_like(specimen: Envelope) -> Callable[[UUID, UUID], bytes]:
    """`encode_headers` for events that differ from the specimen only in event id and subject id, its two arguments."""
    encoded = encode_headers(specimen).decode("latin-1")
    # The first match is the right one: before the two ids there is nothing that a caller chose.
    to_id, _, rest = encoded.partition(str(specimen.event_id))
    to_subject, _, rest = rest.partition(str(specimen.subject_id))

    def encode(event_id: UUID, subject_id: UUID) -> bytes:
        return f"{to_id}{event_id}{to_subject}{subject_id}{rest}".encode("latin-1")

    return encode


@lru_cache(maxsize=8192)
def varint(number: int) -> bytes:
    """A number as Kafka writes it: zigzag, seven bits a byte, the lowest first. Cached: most numbers are lengths."""
    rest = number << 1 ^ number >> 63
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)


def decode_headers(encoded: bytes) -> list[tuple[str, bytes | None]]:
    """The headers that these bytes are, in their order.

    Raises:
        ValueError: they are none; the message says why.
    """
    count, at = _read_varint(encoded, 0)
    if count < 0:
        raise ValueError(f"their number is {count}")
    headers = []
    for _ in range(count):
        name, at = _read_text(encoded, at)
        value, at = _read_text(encoded, at)
        if name is None:
            raise ValueError("one has no name")
        headers.append((name.decode(), value))
    if at < len(encoded):
        raise ValueError(f"{len(encoded) - at} bytes follow the last")
    return headers


def traceparent_in(encoded: bytes) -> str | None:
    """The traceparent among encoded headers, without reading the others; None where it has not its usual length.

    No value before it can look like its name: none has a control character.
    """
    at = encoded.rfind(_TO_TRACEPARENT)
    if at < 0:
        return None
    start = at + len(_TO_TRACEPARENT)
    return encoded[start : start + _TRACEPARENT_CHARACTERS].decode("latin-1")


def _read_varint(encoded: bytes, at: int) -> tuple[int, int]:
    """The number at this place, and the place behind it."""
    number = 0
    for shift in range(0, 64, 7):
        if at >= len(encoded):
            raise ValueError("they end too early")
        number |= (encoded[at] & 0x7F) << shift
        at += 1
        if encoded[at - 1] <= 0x7F:
            return number >> 1 ^ -(number & 1), at
    raise ValueError("a length is no number")


def _read_text(encoded: bytes, at: int) -> tuple[bytes | None, int]:
    length, at = _read_varint(encoded, at)
    if length < 0:
        return None, at
    if at + length > len(encoded):
        raise ValueError("they end too early")
    return encoded[at : at + length], at + length


@lru_cache(maxsize=64)
def _constant_parts(source: str, type_: str, optional: tuple[bool, ...]) -> tuple[str, ...]:
    """The text before each value of `_VARIABLE`, in the order of the headers, and the text after the last.

    `optional` says which of OPTIONAL_HEADERS there are.
    """
    actor, on_behalf_of, traceparent = ("." if is_there else None for is_there in optional)
    specimen = Envelope(
        event_id=_ANY_ID, source=source, type=type_, subject_id=_ANY_ID, version=0, time=_ANY_TIME,
        correlation_id="", causation_id="", actor=actor, on_behalf_of=on_behalf_of, traceparent=traceparent,
    )  # fmt: skip
    headers = specimen.headers()
    parts, constant = [], varint(len(headers))
    for name, value in headers:
        constant += _with_length(name.encode())
        if name in _VARIABLE:
            parts.append(constant + varint(len(value)) if name in _FIXED_LENGTH else constant)
            constant = b""
        else:
            constant += _with_length(value)
    parts.append(constant)
    return tuple(part.decode("latin-1") for part in parts)


def _as_latin1(text: str) -> str:
    """The text's UTF-8 bytes as characters of Latin-1."""
    return text if text.isascii() else text.encode().decode("latin-1")


def _length(text: str) -> str:
    return varint(len(text)).decode("latin-1")


def _with_length(value: bytes) -> bytes:
    return varint(len(value)) + value


#: What stands before the value of a traceparent of version 00.
_TRACEPARENT_CHARACTERS: Final = 55
_TO_TRACEPARENT: Final = _with_length(b"traceparent") + varint(_TRACEPARENT_CHARACTERS)
