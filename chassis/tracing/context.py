"""A place in a trace, as it travels: the header `traceparent` of W3C Trace Context."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

#: Section 3.2.2: version, trace id, parent id, flags. Version 00 has nothing after them.
_TRACEPARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
#: Later versions may be longer; no caller needs more than this.
_TRACEPARENT_CHARACTERS: Final = 128
_SAMPLED: Final = 1


class SpanContext(NamedTuple):
    """One span of one trace: 16 and 8 bytes, and whether the trace is recorded."""

    trace_id: bytes
    span_id: bytes
    is_sampled: bool = True

    @property
    def end_of_id(self) -> int:
        """The last 64 bits of the trace's id, by which samplers decide."""
        return int.from_bytes(self.trace_id[8:], "big")

    @property
    def traceparent(self) -> str:
        """The header that names it."""
        return f"00-{self.trace_id.hex()}-{self.span_id.hex()}-{'01' if self.is_sampled else '00'}"


def read_traceparent(header: str | None) -> SpanContext | None:
    """What the header names; None where there is none, or a broken one, which must not travel on."""
    if header is None or len(header) > _TRACEPARENT_CHARACTERS:
        return None
    match = _TRACEPARENT.fullmatch(header)
    if match is None or (match[1] == "00" and match[5]):
        return None
    return SpanContext(bytes.fromhex(match[2]), bytes.fromhex(match[3]), bool(int(match[4], 16) & _SAMPLED))
