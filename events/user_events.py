"""The user events and the public user they carry.

Every event carries the user's whole public state after the change and the old values of what changed, so a projection
of current state needs no read, and the newest event of a user is that user's current state. Nothing secret is public:
no password, no hash.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PlainSerializer

Status = Literal["active", "deactivated"]


def rfc3339(time: datetime) -> str:
    """The one written form of a time: RFC 3339, UTC, microseconds, `Z`."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]


class PublicUser(BaseModel):
    """A user as clients, subscribers and the query API see them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: UUID
    email: str
    username: str
    email_verified: bool
    display_name: str | None
    attributes: dict[str, JsonValue]
    is_active: bool
    status: Status
    version: int = Field(ge=1)
    created_at: Time
    updated_at: Time


class UserEvent(BaseModel):
    """What every event but the tombstone carries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: The CloudEvents type without its version.
    name: ClassVar[str]
    version: ClassVar[int] = 1

    user: PublicUser
    #: Old values of the fields that changed, but version and updated_at; attributes as a whole.
    previous: dict[str, Any] = Field(default_factory=dict)


class UserRegistered(UserEvent):
    """A user exists from now on."""

    name: ClassVar[str] = "muster.user.registered"
