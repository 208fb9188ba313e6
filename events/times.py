"""Times as they are published: RFC 3339, UTC, microseconds, `Z`.

`chassis/clock.py` has the same for services that know no events; a test holds the two together.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated

from pydantic import PlainSerializer, WithJsonSchema


def rfc3339(time: datetime) -> str:
    """The one published form of a time."""
    if time.tzinfo is not UTC:
        time = time.astimezone(UTC)
    return f"{time.isoformat(timespec='microseconds')[:-6]}Z"


# Events repeat times: a new user was created when they were updated, and an import registers thousands at one time.
_cached_rfc3339 = lru_cache(maxsize=16)(rfc3339)
#: The type of a time in an event's data.
Time = Annotated[
    datetime,
    PlainSerializer(_cached_rfc3339, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
