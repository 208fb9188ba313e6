"""Ids: UUIDv7 (RFC 9562), so that what is made later sorts later and indexes stay compact."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A new UUIDv7, monotonic within this process."""
    return uuid7()
