"""The catalogue: which class a published (type, version) is, and how an event becomes a record's value and back.

Every version ever published stays readable: an old version has an upcaster to the next one and a golden JSON in
tests/unit/events/golden/. A new event is added here and to the union `Event`; exhaustive matches find what forgot it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, get_args

from pydantic import ValidationError
from pydantic_core import from_json, to_json

from events.user_events import (
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

#: Every event that carries a user.
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
#: Every event.
Event = ChangeEvent | UserErased

#: The type of a tombstone: its value is null, its headers name the person's id and last version.
ERASED_TYPE: Final = f"{UserErased.name}.v1"

_REASONED: Final = (UserDeactivated, UserReactivated)
_TYPE = re.compile(r"(?P<name>muster\.user\.[a-z_]+)\.v(?P<version>[1-9]\d{0,3})")
_CLASSES: Final[dict[str, type[ChangeEvent]]] = {kind.name: kind for kind in get_args(ChangeEvent)}

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
#: (name, old version) to the function that turns its data into that of the next version.
_UPCASTERS: Final[dict[tuple[str, int], Upcaster]] = {}


class UnknownEventError(ValueError):
    """No class is known for a type or version; a newer Muster may have published it."""


class InvalidEventError(ValueError):
    """The data of a known type is not what its class promises; the message says which field."""


def event_type(event: Event) -> str:
    """The CloudEvents type of an event, such as `muster.user.registered.v1`."""
    if isinstance(event, UserErased):
        return ERASED_TYPE
    return f"{event.name}.v{event.version}"


def encode(event: Event) -> bytes | None:
    """An event as the UTF-8 JSON of a record's value; None, a tombstone, for an erasure."""
    return None if isinstance(event, UserErased) else encode_around(event, to_json(event.user))


def encode_around(event: ChangeEvent, user: bytes) -> bytes:
    """As `encode`, where the JSON of the event's user is at hand: that is most of the event, and of the work."""
    parts = [b'{"user":', user, b',"previous":', to_json(event.previous) if event.previous else b"{}"]
    reason = event.reason if isinstance(event, _REASONED) else None
    if reason is not None:
        parts += [b',"reason":', to_json(reason)]
    return b"".join([*parts, b"}"])


def decode(type_: str, value: bytes) -> ChangeEvent:
    """A record's value as the newest version of its class.

    Raises:
        UnknownEventError: the type or its version is not in the catalogue.
        InvalidEventError: the value is not JSON, or not the data of its type.
    """
    kind, version = _lookup(type_)
    try:
        if version == kind.version:
            return kind.model_validate_json(value)
        return kind.model_validate(_upcast(kind, version, from_json(value)))
    except (ValidationError, ValueError) as error:
        raise InvalidEventError(f"the value is no {type_}: {_first_line(error)}") from error


def is_newest(type_: str) -> bool:
    """Whether a type is in the catalogue, in the version that is published now."""
    try:
        kind, version = _lookup(type_)
    except UnknownEventError:
        return False
    return version == kind.version


def types() -> list[str]:
    """Every type that is published now, tombstone last."""
    return [f"{kind.name}.v{kind.version}" for kind in _CLASSES.values()] + [ERASED_TYPE]


def short_name(type_: str) -> str:
    """The event's name as the timeline shows it: `muster.user.email_changed.v1` is `email_changed`."""
    name, _, _ = type_.rpartition(".v")
    return name.rpartition(".")[2]


# A consumer decodes millions of records of a handful of types; errors are not kept.
@lru_cache(maxsize=256)
def _lookup(type_: str) -> tuple[type[ChangeEvent], int]:
    match = _TYPE.fullmatch(type_)
    kind = _CLASSES.get(match["name"]) if match else None
    if match is None or kind is None:
        raise UnknownEventError(f"the type {type_!r} is not in the catalogue")
    version = int(match["version"])
    if version > kind.version:
        raise UnknownEventError(f"version {version} of {kind.name} is newer than this Muster knows ({kind.version})")
    return kind, version


def _upcast(kind: type[ChangeEvent], version: int, data: dict[str, Any]) -> dict[str, Any]:
    for step in range(version, kind.version):
        data = _UPCASTERS[kind.name, step](data)
    return data


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'value'}: {first['msg']}"
    return str(error)
