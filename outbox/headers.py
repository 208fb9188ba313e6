"""An event's headers as a Kafka record holds them: laid down when the event is appended, sent as they are by the relay.

A command has a hundred times longer for it than the relay, which publishes in pages of thousands. The bytes that all
events of a type share are made once; the rest is put together as text in which a character stands for a byte.

See docs/decisions/0014. Source: the Kafka protocol guide's "Record" and "Record Header".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final
from uuid import UUID

from events.envelope import Envelope, kafka_headers
from events.user_events import rfc3339

#: Headers whose values differ from event to event; what stands around them is the type's.
_FIXED: Final = frozenset({"ce_id", "ce_subject", "ce_time", "ce_sequence"})
_OWN: Final = _FIXED | {"ce_correlationid", "ce_causationid", "traceparent"}
#: As long as every id and every time is; `_FIXED` values have their lengths laid down too.
_ID: Final = b"0" * len("0199d0c8-7d5c-7c5e-8a3f-0123456789ab")
_TIME: Final = b"0" * len("2026-11-22T10:00:00.000000Z")


def encode_headers(envelope: Envelope) -> bytes:
    """The number of the envelope's headers, and each with its name and value, in the order of `Envelope.headers`."""
    correlation, causation = _bytewise(envelope.correlation_id), _bytewise(envelope.causation_id)
    traceparent = _bytewise(envelope.traceparent or "")
    to_id, to_subject, to_time, to_sequence, to_correlation, to_causation, rest = _between(
        envelope.type, traced=bool(traceparent)
    )
    headers = (
        f"{to_id}{envelope.event_id}{to_subject}{envelope.user_id}{to_time}{rfc3339(envelope.time)}"
        f"{to_sequence}{envelope.version:020d}{to_correlation}{_length(len(correlation))}{correlation}"
        f"{to_causation}{_length(len(causation))}{causation}{rest}"
    )
    if traceparent:
        headers = f"{headers}{_length(len(traceparent))}{traceparent}"
    return headers.encode("latin-1")


def headers_like(specimen: Envelope) -> Callable[[UUID, UUID], bytes]:
    """`encode_headers` for events that differ from this one in nothing but event id and user id, which it is given."""
    encoded = encode_headers(specimen).decode("latin-1")
    # Each is found where it stands first: nothing before them is a caller's.
    to_id, _, rest = encoded.partition(str(specimen.event_id))
    to_subject, _, rest = rest.partition(str(specimen.user_id))

    def encode(event_id: UUID, user_id: UUID) -> bytes:
        return f"{to_id}{event_id}{to_subject}{user_id}{rest}".encode("latin-1")

    return encode


@lru_cache(maxsize=8192)
def varint(number: int) -> bytes:
    """A number as Kafka writes it: zigzag, seven bits a byte, the lowest first. Remembered: most are lengths."""
    rest = number << 1 ^ number >> 63
    written = bytearray()
    while rest > 0x7F:
        written.append(rest & 0x7F | 0x80)
        rest >>= 7
    written.append(rest)
    return bytes(written)


@lru_cache(maxsize=64)
def _between(type_: str, *, traced: bool) -> tuple[str, ...]:
    """What stands before each of an event's own values, in the order of `kafka_headers`, and after the last."""
    headers = kafka_headers(_ID, type_, _ID, 0, _TIME, "", "", "." if traced else None)
    between, constant = [], varint(len(headers))
    for name, value in headers:
        constant += _sized(name.encode())
        if name in _OWN:
            between.append(constant + varint(len(value)) if name in _FIXED else constant)
            constant = b""
        else:
            constant += _sized(value)
    if not traced:
        between.append(constant)
    return tuple(each.decode("latin-1") for each in between)


def _bytewise(text: str) -> str:
    """The text's UTF-8, a character for each byte."""
    return text if text.isascii() else text.encode().decode("latin-1")


@lru_cache(maxsize=1024)
def _length(number: int) -> str:
    return varint(number).decode("latin-1")


def _sized(value: bytes) -> bytes:
    return varint(len(value)) + value
