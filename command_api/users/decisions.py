"""The decisions: what a command does to a user, as a pure function of state, command and time.

The state machine is `active <-> deactivated`, and from either `-> erased`. An event carries the user after the change
and the old values of what changed. None means that there is nothing to do: the command succeeds, and nothing is
published.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any, Final, TypeVar, assert_never

from pydantic import JsonValue

from command_api.users.commands import (
    ChangeCommand,
    ChangeEmail,
    ChangePassword,
    ChangeProfile,
    ChangeUsername,
    Command,
    DeactivateUser,
    EraseUser,
    ImportsUser,
    ReactivateUser,
    RegistersUser,
    VerifyEmail,
)
from command_api.users.refusals import (
    AttributesRefusedError,
    EmailNotCurrentError,
    RefusedError,
    UserIsDeactivatedError,
    UserNotFoundError,
)
from command_api.users.state import ErasedUser, Registered, State, Unregistered, version_of
from command_api.users.values import Attributes, attributes_fault, encoded
from events.user_events import (
    ChangeEvent,
    Event,
    PublicUser,
    UserDeactivated,
    UserEmailChanged,
    UserEmailVerified,
    UserErased,
    UserEventData,
    UserPasswordChanged,
    UserProfileChanged,
    UserReactivated,
    UserRegistered,
    UserUsernameChanged,
)

E = TypeVar("E", bound=UserEventData)
StatusChange = TypeVar("StatusChange", UserDeactivated, UserReactivated)

#: The fields that a registration gives, as they are.
_GIVEN: Final = tuple(RegistersUser.model_fields)


def decide(state: State, command: Command, now: datetime) -> Event | None:
    """The event that the command leads to, or None where there is nothing to do.

    Raises:
        RefusedError: the command cannot be carried out in this state; which one says why.
    """
    match command:
        case RegistersUser():
            assert isinstance(state, Unregistered), "an id is registered once"
            return register(state, command, now)
        case EraseUser():
            return erase(state)
        case _:
            if not isinstance(state, Registered):
                raise UserNotFoundError
            return change(state.user, command, now)


def register(state: Unregistered, command: RegistersUser, now: datetime) -> UserRegistered:
    """A new user with what the command gives: version 1; active and not verified, unless imported otherwise."""
    fields = vars(command)
    given = {name: fields[name] for name in _GIVEN}
    given["attributes"] = command.attributes or {}
    imported = command if isinstance(command, ImportsUser) else None
    status = imported.status if imported else "active"
    user = PublicUser(
        id=state.id,
        email_verified=bool(imported and imported.email_verified),
        is_active=status == "active",
        status=status,
        version=1,
        created_at=(imported and imported.created_at) or now,
        updated_at=now,
        **given,
    )
    return UserRegistered(user=user, reason=imported.deactivated_reason if imported else None)


def erase(state: State) -> UserErased | None:
    """Forget the person; None where they were forgotten already."""
    match state:
        case Registered(user=user):
            return UserErased(user.id, version_of(state) + 1)
        case ErasedUser():
            return None
        case Unregistered():
            raise UserNotFoundError
        case _:
            assert_never(state)


def change(user: PublicUser, command: ChangeCommand, now: datetime) -> ChangeEvent | None:
    """The event of a change of a registered user; one who is deactivated can only be reactivated."""
    if user.is_active or isinstance(command, ReactivateUser):
        return _change(user, command, now)
    with suppress(RefusedError):  # whatever else is wrong with the command, the user must be reactivated first
        if _change(user, command, now) is None:
            return None
    raise UserIsDeactivatedError


def _change(user: PublicUser, command: ChangeCommand, now: datetime) -> ChangeEvent | None:
    event: ChangeEvent | None
    match command:
        case ChangeEmail(email=email):
            event = _replaced(UserEmailChanged, user, now, email=email, email_verified=False)
        case VerifyEmail(email=email):
            event = _verify(user, email, now)
        case ChangeUsername(username=username):
            event = _replaced(UserUsernameChanged, user, now, username=username)
        case ChangePassword():
            event = _changed(UserPasswordChanged, user, now)
        case ChangeProfile():
            event = _change_profile(user, command, now)
        case DeactivateUser(reason=reason):
            event = _set_status(UserDeactivated, user, now, active=False, reason=reason)
        case ReactivateUser(reason=reason):
            event = _set_status(UserReactivated, user, now, active=True, reason=reason)
        case _:
            assert_never(command)
    return event


def _replaced(kind: type[E], user: PublicUser, now: datetime, **after: Any) -> E | None:
    """Decide as `_changed` where the first of the new values differs; else None, as there is nothing to do."""
    name, value = next(iter(after.items()))
    return None if getattr(user, name) == value else _changed(kind, user, now, **after)


def _verify(user: PublicUser, email: str, now: datetime) -> UserEmailVerified | None:
    if email != user.email:
        raise EmailNotCurrentError
    return None if user.email_verified else _changed(UserEmailVerified, user, now, email_verified=True)


def _change_profile(user: PublicUser, patch: ChangeProfile, now: datetime) -> UserProfileChanged | None:
    given = patch.model_fields_set
    after: dict[str, Any] = {}
    for name in ChangeProfile.model_fields:
        if name in given and name != "attributes" and getattr(patch, name) != getattr(user, name):
            after[name] = getattr(patch, name)
    if "attributes" in given:
        attributes = {} if patch.attributes is None else merge(user.attributes, patch.attributes)
        if fault := attributes_fault(attributes):
            raise AttributesRefusedError(f"{fault}; that is after the merge with what is there")
        if encoded(attributes) != encoded(user.attributes):
            after["attributes"] = attributes
    return _changed(UserProfileChanged, user, now, **after) if after else None


def merge(target: JsonValue, patch: Attributes) -> Attributes:
    """Apply a merge patch (RFC 7396, section 2); the target stays as it is."""
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            merged[name] = merge(merged.get(name), value)
        else:
            merged[name] = value
    return merged


def _set_status(
    kind: type[StatusChange], user: PublicUser, now: datetime, *, active: bool, reason: str | None
) -> StatusChange | None:
    if user.is_active == active:
        return None
    status = "active" if active else "deactivated"
    event = _changed(kind, user, now, is_active=active, status=status)
    return event.model_copy(update={"reason": reason})


def _changed(kind: type[E], user: PublicUser, now: datetime, **after: Any) -> E:
    """The event of a change: the user with the new values, and the old values of the fields that differ."""
    previous = {name: getattr(user, name) for name, value in after.items() if getattr(user, name) != value}
    if "attributes" in after:
        previous["attributes"] = user.attributes  # to Python they are equal where 1 became True
    # The clock may have been set back, and a later version must not look older.
    update = {**after, "version": user.version + 1, "updated_at": max(now, user.updated_at)}
    return kind(user=user.model_copy(update=update), previous=previous)
