"""The states of a user and how an event leads from one to the next. Pure: no clock, no ids, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never
from uuid import UUID

from events.user_events import (
    Event,
    PublicUser,
    UserDeactivated,
    UserEmailChanged,
    UserEmailVerified,
    UserErased,
    UserPasswordChanged,
    UserProfileChanged,
    UserReactivated,
    UserRegistered,
    UserUsernameChanged,
)


@dataclass(frozen=True, slots=True)
class Unregistered:
    """Nobody has this id yet."""

    id: UUID


@dataclass(frozen=True, slots=True)
class Registered:
    """A user, active or deactivated."""

    user: PublicUser


@dataclass(frozen=True, slots=True)
class ErasedUser:
    """A person who was forgotten: only the id and the version of the erasure are known."""

    id: UUID
    version: int


State = Unregistered | Registered | ErasedUser


def evolve(state: State, event: Event) -> State:
    """The state after the event, which must be the next one of this user."""
    match event:
        case UserErased(user_id=user_id, version=version):
            after: State = ErasedUser(user_id, version)
        case (
            UserRegistered()
            | UserEmailChanged()
            | UserEmailVerified()
            | UserUsernameChanged()
            | UserPasswordChanged()
            | UserProfileChanged()
            | UserDeactivated()
            | UserReactivated()
        ):
            # State-carried events: the whole user is in each of them.
            after = Registered(event.user)
        case _:
            assert_never(event)
    assert subject(after) == subject(state), "an event of another user"
    assert version_of(after) == version_of(state) + 1, "an event was left out"
    return after


def subject(state: State) -> UUID:
    """The id of the user whose state it is."""
    return state.user.id if isinstance(state, Registered) else state.id


def version_of(state: State) -> int:
    """The number of events that led here."""
    match state:
        case Unregistered():
            return 0
        case Registered(user=user):
            return user.version
        case ErasedUser(version=version):
            return version
        case _:
            assert_never(state)
