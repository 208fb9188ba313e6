"""The user events, the public user that they carry, and their catalogue.

Every event carries the user's whole public state after the change, and the old values of what changed. So a projection
of current state needs no read, and the newest event of a user is that user's current state. Nothing secret is public:
no password, no hash. A snapshot is no change: it says the present state once more, for a log that has lost it.

A new event is a class here and a member of `ChangeEvent`; exhaustive matches find every place that forgot it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, get_args
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue
from pydantic_core import to_json

from .catalogue import Catalogue, EventData
from .times import Time

Status = Literal["active", "deactivated"]


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


class UserEventData(EventData):
    """The members of every event but the tombstone."""

    user: PublicUser
    #: Old values of the fields that changed, but version and updated_at; attributes as a whole.
    previous: dict[str, Any] = Field(default_factory=dict)


class _ReasonedEvent(UserEventData):
    """An event for which somebody may have given a reason; absent where nobody did."""

    reason: str | None = Field(default=None, exclude_if=lambda reason: reason is None)


class UserRegistered(_ReasonedEvent):
    """A user exists from now on; one who was imported may be verified or deactivated already, and older."""

    name: ClassVar[str] = "muster.user.registered"


class UserEmailChanged(UserEventData):
    """The user has another e-mail address, not yet verified."""

    name: ClassVar[str] = "muster.user.email_changed"


class UserEmailVerified(UserEventData):
    """The current e-mail address is known to be the user's."""

    name: ClassVar[str] = "muster.user.email_verified"


class UserUsernameChanged(UserEventData):
    """The user has another name."""

    name: ClassVar[str] = "muster.user.username_changed"


class UserPasswordChanged(UserEventData):
    """The user has another password; what it is, or its hash, is in no event."""

    name: ClassVar[str] = "muster.user.password_changed"


class UserProfileChanged(UserEventData):
    """The display name or the attributes changed."""

    name: ClassVar[str] = "muster.user.profile_changed"


class UserDeactivated(_ReasonedEvent):
    """The user can do nothing until reactivated."""

    name: ClassVar[str] = "muster.user.deactivated"


class UserReactivated(_ReasonedEvent):
    """The user is active again."""

    name: ClassVar[str] = "muster.user.reactivated"


class UserSnapshot(UserEventData):
    """The user's present state once more: nothing changed, and the version is that of the last change."""

    name: ClassVar[str] = "muster.user.snapshot"


@dataclass(frozen=True, slots=True)
class UserErased:
    """The person was erased: their id and the version the erasure took. Published as a tombstone, without a value."""

    name: ClassVar[str] = "muster.user.erased"
    user_id: UUID
    version: int


#: Every event that a change of a user leads to, and that carries the user.
ChangeEvent = (
    UserRegistered
    | UserEmailChanged
    | UserEmailVerified
    | UserUsernameChanged
    | UserPasswordChanged
    | UserProfileChanged
    | UserDeactivated
    | UserReactivated
)
#: Every event that a change leads to.
Event = ChangeEvent | UserErased

USER_EVENTS: Final = Catalogue[ChangeEvent | UserSnapshot, UserErased](
    subject="user", source="/muster/users", classes=(*get_args(ChangeEvent), UserSnapshot), tombstone=UserErased
)


def encode_with_user(event: ChangeEvent, user: bytes) -> bytes:
    """As `USER_EVENTS.encode`, where the JSON of the event's user is at hand: most of the event, and of the work."""
    parts = [b'{"user":', user, b',"previous":', to_json(event.previous) if event.previous else b"{}"]
    if isinstance(event, _ReasonedEvent) and event.reason is not None:
        parts += [b',"reason":', to_json(event.reason)]
    return b"".join([*parts, b"}"])
