"""Decode: a Kafka record becomes a `Change` of one user, or a `Poison` that says why it cannot.

Nothing here raises: what is wrong with a record is an answer, not an accident, since a record that nobody can read will
be delivered again and again until somebody parks it.

The catalogue (events/catalogue.py) decides what can be read. A rebuild reads millions of records that all look the
same, and making models of them took a third of its time; so what looks exactly as the relay writes it is taken as it
is, after a look at every field, and everything else goes to the catalogue. tests/unit/projectors/test_records.py holds
the short way to the long one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, Final, NamedTuple, Protocol, TypedDict
from uuid import UUID

from asyncpg.pgproto import pgproto
from pydantic_core import from_json

from events.catalogue import ERASED_TYPE, InvalidEventError, UnknownEventError, decode, is_newest
from events.envelope import Envelope, EnvelopeError, kafka_headers, read_envelope
from events.topics import MAX_MESSAGE_BYTES
from events.user_events import PublicUser, UserEvent

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: The command database counts versions in a bigint; so do the read tables.
_MAX_VERSION: Final = 2**63 - 1
_UUID_CHARACTERS: Final = 36
# There is no year 0.
_TIME: Final = r"(?!0000)\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3])(?::[0-5]\d){2}\.\d{6}Z"
_TWO_TIMES: Final = re.compile(_TIME * 2, re.ASCII)
_TIME_CHARACTERS: Final = len("2026-11-29T12:00:00.000000Z")
_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
#: Id, time and version of an event, one behind the other. A version has 20 digits at most; what is longer is no bigint,
#: or padded by somebody else.
_IDENTITY: Final = re.compile(rf"{_UUID}{_TIME}\d{{1,20}}".encode(), re.ASCII)
#: The headers' names as the relay writes them, without and with a trace.
_UNTRACED: Final = tuple(name for name, _ in kafka_headers(b"", ERASED_TYPE, b"", 0, b"", "", "", None))
_NAMES: Final = (_UNTRACED, (*_UNTRACED, "traceparent"))
_EVENT_FIELDS: Final = frozenset(UserEvent.model_fields)
_USER_FIELDS: Final = tuple(PublicUser.model_fields)
_fields: Final = itemgetter(*_USER_FIELDS)
_STATUS: Final = frozenset({"active", "deactivated"})


class PublicUserData(TypedDict):
    """events.user_events.PublicUser as JSON has it: ids and times are texts in their one written form."""

    id: str
    email: str
    username: str
    email_verified: bool
    display_name: str | None
    attributes: dict[str, Any]
    is_active: bool
    status: str
    version: int
    created_at: str
    updated_at: str


class EventData(TypedDict, total=False):
    """The value of a record, checked; `user` and `previous` are always there."""

    user: PublicUserData
    previous: dict[str, Any]
    reason: str | None


class Record(Protocol):
    """What is read of a Kafka record; aiokafka's ConsumerRecord, or one that was parked."""

    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class Change(NamedTuple):
    """One event of one user; `data` is None where the person was erased."""

    record: Record
    user_id: UUID
    #: The person's version after the change.
    version: int
    #: The CloudEvents type.
    type: str
    data: EventData | None

    @property
    def envelope(self) -> Envelope:
        """All of the headers; read on use, because only some projections want more than is above."""
        return read_envelope(self.record.headers)


class Poison(NamedTuple):
    """A record that cannot be applied; `user_id` is None where the key names nobody."""

    record: Record
    user_id: UUID | None
    error: str


def read_record(record: Record) -> Change | Poison:
    """Decode one record; never raises for what is in it."""
    user_id = key_of(record)
    if user_id is None:
        return Poison(record, None, f"the key {_excerpt(record.key)} is no user's id")
    try:
        return _read(record, user_id)
    except (EnvelopeError, UnknownEventError, InvalidEventError, _InapplicableError) as error:
        return Poison(record, user_id, str(error))
    except (ValueError, RecursionError, OverflowError) as error:
        return Poison(record, user_id, f"{type(error).__name__}: {error}")


def key_of(record: Record) -> UUID | None:
    """The user a record belongs to, by its key, or None where that is no id."""
    if record.key is None or len(record.key) != _UUID_CHARACTERS:
        return None
    try:
        # A uuid.UUID in every respect, made in a seventh of the time.
        return pgproto.UUID(record.key.decode("ascii"))
    except ValueError:
        return None


def time_of(record: Record) -> datetime:
    """The record's own timestamp."""
    return _EPOCH + timedelta(milliseconds=max(record.timestamp, 0))


class _InapplicableError(ValueError):
    """Readable, but not what this topic promises."""


def _read(record: Record, user_id: UUID) -> Change:
    value = record.value
    if value is not None and len(value) > MAX_MESSAGE_BYTES:
        raise _InapplicableError(f"the value has {len(value)} bytes; the topic allows {MAX_MESSAGE_BYTES}")
    type_, version = _plain_headers(record) or _checked_headers(record, user_id)
    if value is None:
        if type_ != ERASED_TYPE:
            raise _InapplicableError(f"the value is null, but ce_type is {type_!r}")
        return Change(record, user_id, version, type_, None)
    data = _plain_data(type_, value, record.key) or _checked_data(type_, value, user_id)
    if data["user"]["version"] != version:
        raise _InapplicableError("the user in the value has not the version that the headers name")
    # The escape is rare and may itself be escaped, so its bytes alone prove nothing.
    if b"\\u0000" in value and _has_nul(data):
        raise _InapplicableError("a text has a NUL character")
    return Change(record, user_id, version, type_, data)


def _plain_headers(record: Record) -> tuple[str, int] | None:
    """Type and version of a record whose headers look as the relay writes them; None for all others.

    What is not read here has been looked at all the same, so that every projection parks the same records.
    """
    try:
        names, values = zip(*record.headers, strict=True)
        if not b"".join(values).isascii():
            return None
    except (TypeError, ValueError):
        return None  # there are none, or one is without a value
    if names not in _NAMES:
        return None
    _, event_id, _, type_, subject, time, sequence = values[:7]
    if subject != record.key or len(event_id) != _UUID_CHARACTERS or len(time) != _TIME_CHARACTERS:
        return None
    if not _IDENTITY.fullmatch(event_id + time + sequence):
        return None
    version = int(sequence)
    return (type_.decode(), version) if 0 < version <= _MAX_VERSION else None


def _plain_data(type_: str, value: bytes, key: bytes | None) -> EventData | None:
    """The data of an event that is written as the catalogue writes it; None for all others, also for what is wrong."""
    if not is_newest(type_):
        return None
    try:
        data = from_json(value, allow_inf_nan=False, cache_strings="keys")
        user, previous = data["user"], data["previous"]
        if data.keys() != _EVENT_FIELDS or len(user) != len(_USER_FIELDS) or type(previous) is not dict:
            return None
        id_, email, username, verified, name, attributes, active, status, version, created, updated = _fields(user)
        plain = (
            id_.encode() == key
            and type(email) is type(username) is str
            and (name is None or type(name) is str)
            and type(verified) is type(active) is bool
            and type(attributes) is dict
            and type(version) is int
            and version > 0
            and status in _STATUS
            and _TWO_TIMES.fullmatch(created + updated)
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        return None
    return data if plain else None


def _checked_data(type_: str, value: bytes, user_id: UUID) -> EventData:
    """The data of any event that can be read, in the form that the newest version has.

    Raises:
        ValueError: it cannot, or is another user's; also where a number is NaN, which no JSON can say.
    """
    event = decode(type_, value)
    if event.user.id != user_id:
        raise _InapplicableError("the user in the value is not the one that the headers name")
    from_json(value, allow_inf_nan=False)
    data: EventData = event.model_dump(mode="json")  # type: ignore[assignment]  # what the model says
    # As it came: written anew, what JSON has no form for, such as a number beyond its range, would be another.
    data["previous"] = event.previous
    return data


def _checked_headers(record: Record, user_id: UUID) -> tuple[str, int]:
    """Type and version, or an error that says what is wrong with the headers."""
    envelope = read_envelope(record.headers)
    if envelope.user_id != user_id:
        raise _InapplicableError(f"the key is {user_id}, ce_subject is {envelope.user_id}")
    if not 0 < envelope.version <= _MAX_VERSION:
        raise _InapplicableError(f"ce_sequence is {envelope.version}, which is no version")
    return envelope.type, envelope.version


def _has_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(map(_has_nul, value.keys())) or any(map(_has_nul, value.values()))
        case list():
            return any(map(_has_nul, value))
        case _:
            return False


def _excerpt(key: bytes | None) -> str:
    limit = 40
    return "(none)" if key is None else repr(key[:limit])
