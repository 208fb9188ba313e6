"""The user events and the public user they carry.

Every event carries the user's whole public state after the change and the old values of what changed, so a projection
of current state needs no read, and the newest event of a user is that user's current state. Nothing secret is public:
no password, no hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PlainSerializer

Status = Literal["active", "deactivated"]


def rfc3339(time: datetime) -> str:
    """The one written form of a time: RFC 3339, UTC, microseconds, `Z`."""
    if time.tzinfo is not UTC:
        time = time.astimezone(UTC)
    return f"{time.isoformat(timespec='microseconds')[:-6]}Z"


# A user who is new has one time twice, and so has everybody of a batch that is imported.
_written = lru_cache(maxsize=16)(rfc3339)
Time = Annotated[datetime, PlainSerializer(_written, return_type=str)]


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

    #: The CloudEvents type without its version, and the version of the data below.
    name: ClassVar[str]
    version: ClassVar[int] = 1

    user: PublicUser
    #: Old values of the fields that changed, but version and updated_at; attributes as a whole.
    previous: dict[str, Any] = Field(default_factory=dict)


class UserRegistered(UserEvent):
    """A user exists from now on."""

    name: ClassVar[str] = "muster.user.registered"


class UserEmailChanged(UserEvent):
    """The user has another e-mail address, not yet verified."""

    name: ClassVar[str] = "muster.user.email_changed"


class UserEmailVerified(UserEvent):
    """The current e-mail address is known to be the user's."""

    name: ClassVar[str] = "muster.user.email_verified"


class UserUsernameChanged(UserEvent):
    """The user has another name."""

    name: ClassVar[str] = "muster.user.username_changed"


class UserPasswordChanged(UserEvent):
    """The user has another password; what it is, or its hash, is in no event."""

    name: ClassVar[str] = "muster.user.password_changed"


class UserProfileChanged(UserEvent):
    """The display name or the attributes changed."""

    name: ClassVar[str] = "muster.user.profile_changed"


class _ReasonedEvent(UserEvent):
    """An event for which somebody may have given a reason; absent where nobody did."""

    reason: str | None = Field(default=None, exclude_if=lambda reason: reason is None)


class UserDeactivated(_ReasonedEvent):
    """The user can do nothing until reactivated."""

    name: ClassVar[str] = "muster.user.deactivated"


class UserReactivated(_ReasonedEvent):
    """The user is active again."""

    name: ClassVar[str] = "muster.user.reactivated"


@dataclass(frozen=True, slots=True)
class UserErased:
    """The person was erased: their id and the version the erasure took. Published as a tombstone, without a value."""

    name: ClassVar[str] = "muster.user.erased"
    user_id: UUID
    version: int
