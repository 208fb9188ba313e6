"""Spans as OTLP has them in protobuf: what a collector takes.

Encoded by hand, since the SDK's way, objects of objects that are encoded later, would take more than a tenth of a
command at 10 % sampling (docs/decisions/0036). Names, attributes and their values are few and repeat, so their bytes
are made once.

Source: opentelemetry-proto 1.x, `trace.proto`, `common.proto` and `trace_service.proto`; field numbers are stable.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from struct import Struct
from typing import Final

from chassis.tracing.spans import Attribute, Attributes, Span

#: Fields of a span by number: 7, its start, and 8, its end, as fixed64.
_TIMES: Final = Struct("<BQBQ")
_START, _END = 7 << 3 | 1, 8 << 3 | 1
#: Fields 1, 2 and 4: ids of 16, 8 and 8 bytes.
_TRACE_ID, _SPAN_ID, _PARENT_ID = b"\x0a\x10", b"\x12\x08", b"\x22\x08"
#: Field 13: a link, of fields 1 and 2.
_LINK: Final = b"\x6a\x1c"
#: Field 15: a status whose code, field 3, is ERROR.
_ERROR: Final = b"\x7a\x02\x18\x02"
_ATTRIBUTES: Final = 9
#: Numbers of one byte.
_BYTES: Final = [bytes((number,)) for number in range(0x80)]
#: The attribute whose value no other span has.
REQUEST_ID: Final = "muster.request_id"


def encode_span(span: Span, end: int) -> bytes:
    """A span that ended at `end`, in nanoseconds since 1970, as a field of the spans of one scope."""
    parts = [_TRACE_ID, span.trace_id, _SPAN_ID, span.span_id]
    if span.parent_id:
        parts += (_PARENT_ID, span.parent_id)
    parts += (_name_and_kind(span.name, span.kind), _TIMES.pack(_START, span.start, _END, end))
    for name, value in span.attributes.items():
        # Not kept: no other span has it.
        encode = _encode_attribute if name == REQUEST_ID else _attribute
        parts.append(encode(_ATTRIBUTES, name, value))
    for link in span.links:
        parts += (_LINK, _TRACE_ID, link.trace_id, _SPAN_ID, link.span_id)
    if span.error:
        parts.append(_ERROR)
    return _field(2, b"".join(parts))


def encode_resource(attributes: Attributes) -> bytes:
    """Who the spans are of: the process."""
    return _field(1, b"".join(_attribute(1, name, value) for name, value in attributes.items()))


def encode_request(resource: bytes, scope: str, spans: Iterable[bytes]) -> bytes:
    """An ExportTraceServiceRequest of encoded parts; `scope` is the name of what made the spans."""
    scope_spans = _field(1, _field(1, scope.encode())) + b"".join(spans)
    return _field(1, resource + _field(2, scope_spans))


@lru_cache(maxsize=256)
def _name_and_kind(name: str, kind: int) -> bytes:
    return _field(5, name.encode()) + bytes((6 << 3, kind))


def _encode_attribute(number: int, name: str, value: Attribute) -> bytes:
    return _field(number, _field(1, name.encode()) + _field(2, _any_value(value)))


# Typed: True is equal to 1.
_attribute = lru_cache(maxsize=4096, typed=True)(_encode_attribute)


def _any_value(value: Attribute) -> bytes:
    if isinstance(value, bool):
        return bytes((2 << 3, value))
    if isinstance(value, int):
        return bytes((3 << 3,)) + _varint(value)
    return _field(1, value.encode())


def _field(number: int, content: bytes) -> bytes:
    """A field whose length stands before it; numbers up to 15 take one byte."""
    size = len(content)
    return _BYTES[number << 3 | 2] + (_BYTES[size] if size < len(_BYTES) else _varint(size)) + content


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative one as the 64 bits of its two's complement."""
    rest = number & (1 << 64) - 1
    encoded = bytearray()
    while rest > 0x7F:
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded)
