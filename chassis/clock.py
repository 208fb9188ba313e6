"""Time: UTC, always with its zone."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

#: The beginning of Unix time, and of the milliseconds in a UUIDv7.
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_MILLISECOND: Final = timedelta(milliseconds=1)


def utc_now() -> datetime:
    """The current time; PostgreSQL keeps microseconds, and so does Python."""
    return datetime.now(UTC)


def rfc3339(time: datetime) -> str:
    """RFC 3339, UTC, microseconds, `Z`: how every header of ours writes a time."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read_rfc3339(text: str) -> datetime:
    """A time that a client wrote, in UTC; digits beyond microseconds are cut off.

    Raises:
        ValueError: it is no RFC 3339 time, has no offset, or does not exist.
    """
    if not _RFC3339.fullmatch(text):
        raise ValueError("must be an RFC 3339 time such as 2026-11-22T08:30:00Z")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("must be a time that exists") from error


def milliseconds(time: datetime) -> int:
    """Since 1970, whole ones: as a UUIDv7 has them."""
    return (time - EPOCH) // _MILLISECOND
