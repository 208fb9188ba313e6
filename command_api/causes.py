"""Why an event happened: the request (correlation), the command (causation) and the caller's trace."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

#: W3C Trace Context, section 3.2.2: version, trace id, parent id, flags. Version 00 has nothing after them.
_TRACEPARENT: Final = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
#: Later versions may be longer; no caller needs more than this.
_TRACEPARENT_CHARACTERS: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """What an event's envelope says about where it came from."""

    command_id: str
    correlation_id: str
    traceparent: str | None = None


def valid_traceparent(header: str | None) -> str | None:
    """The header where it is a valid `traceparent`, else None: a broken one must not travel on with the event."""
    if header is None or len(header) > _TRACEPARENT_CHARACTERS:
        return None
    match = _TRACEPARENT.fullmatch(header)
    if match is None or (match[1] == "00" and match[2]):
        return None
    return header
