"""A catalogue: the events of one kind of subject, and how an event becomes the value of a record and is read again.

Nothing here knows the subject. A kind of subject makes one instance beside its event classes: users do in
events/user_events.py.

Every version that was ever published stays readable: an old version has an upcaster to the next one, and a golden JSON
in tests/unit/events/golden.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json, to_json

_TYPE: Final = re.compile(r"(?P<name>[a-z_.]+)\.v(?P<version>[1-9]\d{0,3})")


class EventData(BaseModel):
    """The data of an event, which is the value of its record; every event class but the tombstone's derives from it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: The CloudEvents type without its version, and the version of the data.
    name: ClassVar[str]
    version: ClassVar[int] = 1

    @classmethod
    def type(cls) -> str:
        """The CloudEvents type, such as `muster.user.registered.v1`."""
        return f"{cls.name}.v{cls.version}"


class TombstoneEvent(Protocol):
    """The erasure of a subject. Its record has no value, so it has no version of its data either."""

    name: ClassVar[str]


Data = TypeVar("Data", bound=EventData)
Tombstone = TypeVar("Tombstone", bound=TombstoneEvent)
#: Turns the data of one version of an event into that of the next.
Upcaster = Callable[[dict[str, Any]], dict[str, Any]]


class UnknownEventError(ValueError):
    """The catalogue has no such type or version; a newer Muster may have published it."""


class InvalidEventError(ValueError):
    """The data of a known type is not what its class promises; the message says which field."""


class Catalogue(Generic[Data, Tombstone]):
    """The events of one kind of subject."""

    def __init__(
        self,
        *,
        subject: str,
        source: str,
        classes: Iterable[type[Data]],
        tombstone: type[Tombstone],
        upcasters: Mapping[tuple[str, int], Upcaster] | None = None,
    ) -> None:
        """`subject` is its noun, `source` the CloudEvents source; `upcasters` are by name and old version."""
        self.subject: Final = subject
        self.source: Final = source
        self.classes: Final = {event_class.type(): event_class for event_class in classes}
        self.tombstone: Final = tombstone
        #: The type of a tombstone: its value is null, its headers name the subject's id and last version.
        self.tombstone_type: Final = f"{tombstone.name}.v1"
        self._upcasters = upcasters or {}
        #: The newest class of each name; an older one may be published beside it for a while.
        self._by_name = {each.name: each for each in sorted(self.classes.values(), key=lambda each: each.version)}

    def types(self) -> list[str]:
        """Every type that is published now, the tombstone's last."""
        return [*self.classes, self.tombstone_type]

    def event_type(self, event: Data | Tombstone) -> str:
        """The CloudEvents type of an event."""
        return event.type() if isinstance(event, EventData) else self.tombstone_type

    def encode(self, event: Data | Tombstone) -> bytes | None:
        """An event as the UTF-8 JSON of a record's value; None for a tombstone."""
        return to_json(event) if isinstance(event, EventData) else None

    def decode(self, type_: str, value: bytes) -> Data:
        """A record's value as the newest version of its class.

        Raises:
            UnknownEventError: the type or its version is not in the catalogue.
            InvalidEventError: the value is not JSON, or not the data of its type.
        """
        event_class, _ = self._find(type_)
        try:
            if self.is_newest(type_):
                return event_class.model_validate_json(value)
            return event_class.model_validate(self.upcast(type_, from_json(value)))
        except (ValueError, LookupError, TypeError) as error:
            raise InvalidEventError(f"the value is no {type_}: {first_line(error)}") from error

    def upcast(self, type_: str, data: dict[str, Any]) -> dict[str, Any]:
        """The data of any version as that of the newest.

        Raises:
            UnknownEventError: the type or its version is not in the catalogue.
        """
        event_class, version = self._find(type_)
        for old_version in range(version, event_class.version):
            data = self._upcasters[event_class.name, old_version](data)
        return data

    def is_newest(self, type_: str) -> bool:
        """Whether a type is in the catalogue, in its newest version; false for the tombstone's."""
        event_class = self.classes.get(type_)
        return event_class is not None and self._by_name[event_class.name] is event_class

    def _find(self, type_: str) -> tuple[type[Data], int]:
        match = _TYPE.fullmatch(type_)
        event_class = self._by_name.get(match["name"]) if match else None
        if match is None or event_class is None:
            raise UnknownEventError(f"the type {type_!r} is not in the catalogue")
        version, newest = int(match["version"]), event_class.version
        if version > newest:
            raise UnknownEventError(
                f"version {version} of {event_class.name} is newer than this Muster knows ({newest})"
            )
        return event_class, version


def short_name(type_: str) -> str:
    """The event's name as the timeline shows it: `muster.user.email_changed.v1` is `email_changed`."""
    name, _, _ = type_.rpartition(".v")
    return name.rpartition(".")[2]


def first_line(error: Exception) -> str:
    """The beginning of an error: for pydantic's the field and what is wrong with it, without its content."""
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'value'}: {first['msg']}"
    return str(error)
