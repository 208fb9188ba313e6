"""Time: UTC, and its one written form, RFC 3339 with microseconds and `Z`."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The current time; PostgreSQL keeps microseconds, and so does Python."""
    return datetime.now(UTC)
