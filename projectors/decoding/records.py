"""Decode: a Kafka record becomes an event of one subject, or a `Poison` that says why it cannot.

Nothing here raises. What is wrong with a record is an answer, not an accident: the batch parks such a record, which
Kafka would otherwise deliver for ever.

The subject's catalogue decides here what can be read, one record at a time. Nearly every record is exactly as the relay
writes it and never comes here: projectors/decoding/slices.py reads it in a quarter of the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol
from uuid import UUID

import msgspec
from asyncpg.pgproto import pgproto
from pydantic_core import from_json

from chassis.clock import EPOCH
from events.catalogue import InvalidEventError, UnknownEventError
from events.envelope import Envelope, EnvelopeError, read_envelope
from events.topics import MAX_MESSAGE_BYTES
from projectors.decoding.states import state_of
from projectors.decoding.subject import Subject

#: The command database counts versions in a bigint; so do the read tables.
MAX_VERSION: Final = 2**63 - 1
#: The last millisecond of the year 9999.
_LATEST_MS: Final = 253_402_300_799_999
_UUID_CHARACTERS: Final = 36
#: At most so many characters of what others wrote are shown.
_EXCERPT: Final = 40


class Record(Protocol):
    """The parts of a Kafka record that are read; aiokafka's ConsumerRecord, or one that was parked."""

    @property
    def topic(self) -> str: ...
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


class DecodedEvent(msgspec.Struct, frozen=True, gc=False):
    """One event of one subject."""

    record: Record
    subject_id: UUID
    #: The subject's version after the event.
    version: int
    #: The CloudEvents type.
    type: str
    #: The fields of the public document after the event, ids and times as texts; None where the subject was erased.
    state: Any = None
    #: The public document as both APIs send it, byte for byte; empty for the erased.
    document: bytes = b""
    #: Old values of what changed.
    previous: dict[str, Any] = {}
    reason: str | None = None

    @property
    def envelope(self) -> Envelope:
        """All of the headers; read on use, because only some projections want more than is above."""
        return read_envelope(self.record.headers)


class Poison(NamedTuple):
    """A record that cannot be applied; `subject_id` is None where the key is no id."""

    record: Record
    subject_id: UUID | None
    error: str
    #: True where it is somebody else's, for all that is known. Then nobody waits behind it.
    suspicious: bool = False


class RecordDecoder:
    """Decodes the records of one kind of subject."""

    def __init__(self, subject: Subject) -> None:
        """Bind the subject's catalogue."""
        self._catalogue = subject.catalogue
        self._noun = subject.noun
        self._decode_state = msgspec.json.Decoder(state_of(subject.document).struct).decode

    def read(self, record: Record) -> DecodedEvent | Poison:
        """Decode one record; never raises for what is in it."""
        subject_id = key_of(record)
        if subject_id is None:
            return Poison(record, None, f"the key {_excerpt(record.key)} is no id", suspicious=True)
        source = header(record, "ce_source")
        if source != self._catalogue.source:
            said = "absent" if source is None else repr(source[:_EXCERPT])
            return Poison(record, subject_id, f"ce_source is {said}, not {self._catalogue.source!r}", suspicious=True)
        try:
            return self._read(record, subject_id)
        except EnvelopeError as error:
            # Our relay looks at the headers of each row (outbox/damage.py), and publishes none without them.
            return Poison(record, subject_id, str(error), suspicious=True)
        except (UnknownEventError, InvalidEventError, _InapplicableError) as error:
            return Poison(record, subject_id, str(error))
        except (ValueError, RecursionError, OverflowError) as error:
            return Poison(record, subject_id, f"{type(error).__name__}: {error}")

    def _read(self, record: Record, subject_id: UUID) -> DecodedEvent:
        value, noun = record.value, self._noun
        type_, version = _type_and_version(record, subject_id)
        if value is not None and len(value) > MAX_MESSAGE_BYTES:
            raise _InapplicableError(f"the value has {len(value)} bytes; the topic allows {MAX_MESSAGE_BYTES}")
        if value is None:
            if type_ != self._catalogue.tombstone_type:
                raise _InapplicableError(f"the value is null, but ce_type is {type_!r}")
            return DecodedEvent(record, subject_id, version, type_)
        event = self._catalogue.decode(type_, value)
        public = getattr(event, noun)
        if public.id != subject_id:
            raise _InapplicableError(f"the {noun} in the value is not the one that the headers name")
        # NaN can be read, but no JSON can say it.
        parsed = from_json(value, allow_inf_nan=False)
        if public.version != version:
            raise _InapplicableError(f"the {noun} in the value has not the version that the headers name")
        if _has_nul(parsed):
            raise _InapplicableError("a text has a NUL character")
        document = public.model_dump_json().encode()
        reason: str | None = getattr(event, "reason", None)
        state = self._decode_state(document)
        return DecodedEvent(record, subject_id, version, type_, state, document, event.previous, reason)


def key_of(record: Record) -> UUID | None:
    """The subject that a record belongs to, by its key, or None where that is no id."""
    if record.key is None or len(record.key) != _UUID_CHARACTERS:
        return None
    try:
        # A uuid.UUID in every respect, made in a seventh of the time.
        return pgproto.UUID(record.key.decode("ascii"))
    except ValueError:
        return None


def header(record: Record, name: str) -> str | None:
    """The header of that name, the last one as in an envelope; None where it is absent or null."""
    found = None
    for known, value in record.headers:
        if known == name and value is not None:
            found = value.decode(errors="backslashreplace")
    return found


def time_of(record: Record) -> datetime:
    """The record's own timestamp; one that no calendar has is moved to its nearest end."""
    return EPOCH + timedelta(milliseconds=min(max(record.timestamp, 0), _LATEST_MS))


class _InapplicableError(ValueError):
    """Readable, but not what the topic promises."""


def _type_and_version(record: Record, subject_id: UUID) -> tuple[str, int]:
    """The type and version that the headers name.

    Raises:
        EnvelopeError: what is wrong with them.
    """
    envelope = read_envelope(record.headers)
    if envelope.subject_id != subject_id:
        raise EnvelopeError(f"the key is {subject_id}, ce_subject is {envelope.subject_id}")
    if not 0 < envelope.version <= MAX_VERSION:
        raise EnvelopeError(f"ce_sequence is {envelope.version}, which is no version")
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
    return "(none)" if key is None else repr(key[:_EXCERPT])
