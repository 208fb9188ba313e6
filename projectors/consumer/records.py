"""Decode: a Kafka record becomes a `Change` of one user, or a `Poison` that says why it cannot.

Nothing here raises: what is wrong with a record is an answer, not an accident, since a record that nobody can read will
be delivered again and again until somebody parks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from events.catalogue import ERASED_TYPE, InvalidEventError, UnknownEventError, decode
from events.envelope import Envelope, EnvelopeError, read_envelope
from events.topics import MAX_MESSAGE_BYTES
from events.user_events import UserEvent

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: The command database counts versions in a bigint; so do the read tables.
_MAX_VERSION: Final = 2**63 - 1
_UUID_CHARACTERS: Final = 36


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


@dataclass(frozen=True, slots=True)
class Change:
    """One event of one user; `event` is None where the person was erased."""

    record: Record
    envelope: Envelope
    event: UserEvent | None

    @property
    def user_id(self) -> UUID:
        """The person."""
        return self.envelope.user_id

    @property
    def version(self) -> int:
        """The person's version after the change."""
        return self.envelope.version


@dataclass(frozen=True, slots=True)
class Poison:
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
        return UUID(record.key.decode("ascii"))
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
    envelope = read_envelope(record.headers)
    if envelope.user_id != user_id:
        raise _InapplicableError(f"the key is {user_id}, ce_subject is {envelope.user_id}")
    if not 0 < envelope.version <= _MAX_VERSION:
        raise _InapplicableError(f"ce_sequence is {envelope.version}, which is no version")
    if value is None:
        if envelope.type != ERASED_TYPE:
            raise _InapplicableError(f"the value is null, but ce_type is {envelope.type!r}")
        return Change(record, envelope, None)
    event = decode(envelope.type, value)
    if event.user.id != user_id or event.user.version != envelope.version:
        raise _InapplicableError("the user in the value is not the one, or not the version, that the headers name")
    # The escape is rare and may itself be escaped, so its bytes alone prove nothing.
    if b"\\u0000" in value and _has_nul(event.model_dump()):
        raise _InapplicableError("a text has a NUL character")
    return Change(record, envelope, event)


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
