"""Decode: a Kafka record becomes a `Change` of one user, or a `Poison` that says why it cannot.

Nothing here raises: what is wrong with a record is an answer, not an accident, since a record that nobody can read will
be delivered again and again until somebody parks it.

The catalogue (events/catalogue.py) decides here what can be read, one record at a time. What looks exactly as the relay
writes it, nearly everything, never comes here: projectors/decoding/slices.py reads it in a quarter of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, NamedTuple, Protocol
from uuid import UUID

import msgspec
from asyncpg.pgproto import pgproto
from pydantic_core import from_json

from events.catalogue import InvalidEventError, UnknownEventError
from events.envelope import Envelope, EnvelopeError, read_envelope
from events.topics import MAX_MESSAGE_BYTES
from events.user_events import USER_EVENTS

#: The command database counts versions in a bigint; so do the read tables.
MAX_VERSION: Final = 2**63 - 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UUID_CHARACTERS: Final = 36


class UserData(msgspec.Struct, gc=False):
    """events.user_events.PublicUser as JSON has it: ids and times are texts in their one written form."""

    id: str
    email: str
    username: str
    email_verified: bool
    display_name: str | None
    attributes: msgspec.Raw
    is_active: bool
    status: Literal["active", "deactivated"]
    version: int
    created_at: str
    updated_at: str


_decode_user: Final = msgspec.json.Decoder(UserData).decode


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


class Change(msgspec.Struct, frozen=True, gc=False):
    """One event of one user; `user` is None where the person was erased."""

    record: Record
    user_id: UUID
    #: The person's version after the change.
    version: int
    #: The CloudEvents type.
    type: str
    user: UserData | None = None
    #: The user as both APIs send it, byte for byte; empty for the erased.
    document: bytes = b""
    #: Old values of what changed.
    previous: dict[str, Any] = {}
    reason: str | None = None

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
    type_, version = _headers(record, user_id)
    if value is None:
        if type_ != USER_EVENTS.tombstone_type:
            raise _InapplicableError(f"the value is null, but ce_type is {type_!r}")
        return Change(record, user_id, version, type_)
    event = USER_EVENTS.decode(type_, value)
    if event.user.id != user_id:
        raise _InapplicableError("the user in the value is not the one that the headers name")
    # NaN can be read, but no JSON can say it.
    parsed = from_json(value, allow_inf_nan=False)
    if event.user.version != version:
        raise _InapplicableError("the user in the value has not the version that the headers name")
    if _has_nul(parsed):
        raise _InapplicableError("a text has a NUL character")
    document = event.user.model_dump_json().encode()
    reason: str | None = getattr(event, "reason", None)
    return Change(record, user_id, version, type_, _decode_user(document), document, event.previous, reason)


def _headers(record: Record, user_id: UUID) -> tuple[str, int]:
    """Type and version, or an error that says what is wrong with the headers."""
    envelope = read_envelope(record.headers)
    if envelope.subject_id != user_id:
        raise _InapplicableError(f"the key is {user_id}, ce_subject is {envelope.subject_id}")
    if not 0 < envelope.version <= MAX_VERSION:
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
