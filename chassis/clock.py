"""Time: UTC, always with its zone."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The current time; PostgreSQL keeps microseconds, and so does Python."""
    return datetime.now(UTC)
