"""Time: UTC, always with its zone."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The current time; PostgreSQL keeps microseconds, and so does Python."""
    return datetime.now(UTC)


def rfc3339(time: datetime) -> str:
    """RFC 3339, UTC, microseconds, `Z`: how every header of ours writes a time."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
