"""The message of a record to a client: a thin event, or with the whole user; none of what is no event of ours.

A thin event brings a Consistency-Token of its user and version: a query that sends it is never answered from older
rows. So whoever may not have people's data in a stream fetches what it needs, and never fetches too early.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import msgspec
import structlog
from aiokafka import ConsumerRecord
from msgspec import UNSET, Raw, UnsetType
from prometheus_client import Counter

from chassis.consistency import ConsistencyToken
from chassis.outages import describe
from event_api.log.ring import Item
from events.envelope import EnvelopeError, read_envelope
from events.times import rfc3339
from events.user_events import USER_EVENTS

log = structlog.get_logger("events")

_LEFT_OUT: Final = Counter(
    "muster_event_api_foreign_records_total", "Records that are no events of ours, told to nobody."
)
#: A type is a line of a stream.
_is_type: Final = re.compile(r"[A-Za-z0-9._-]{1,255}").fullmatch
_LATEST_VERSION: Final = 2**63 - 1
_NOTHING: Final = Raw(b"{}")
_NULL: Final = Raw(b"null")


class Told(msgspec.Struct, omit_defaults=False):
    """An event as clients get it; the last two only where they ask for the whole, and may."""

    id: UUID
    type: str
    time: str
    user_id: UUID
    version: int
    actor: str | None
    on_behalf_of: str | None
    changed: list[str]
    token: str | UnsetType = UNSET
    user: Raw | UnsetType = UNSET
    previous: Raw | UnsetType = UNSET


class _User(msgspec.Struct):
    """Whose state a value shows, and which."""

    id: UUID
    version: int


class _Value(msgspec.Struct):
    """A record's value: `user` is passed on as it is, once it is known to be the one that the envelope names."""

    user: Raw
    previous: dict[str, Raw] = {}


_read_value: Final = msgspec.json.Decoder(_Value).decode
_read_user: Final = msgspec.json.Decoder(_User).decode
_write: Final = msgspec.json.Encoder().encode


class UserRecord:
    """One record of the topic; read when somebody wants it, and then once for all."""

    __slots__ = ("_full", "_record", "_thin", "_type", "key", "offset", "partition", "size", "timestamp")

    def __init__(self, record: ConsumerRecord[bytes, bytes]) -> None:
        """Wrap it; nothing is read yet."""
        self.partition, self.offset, self.key = record.partition, record.offset, record.key
        self.timestamp: int = record.timestamp
        self.size = len(record.value or b"") + sum(len(name) + len(value or b"") for name, value in record.headers)
        self._record = record
        #: Set once it is read, and then empty where it is no event of ours.
        self._type: str | None = None
        self._thin = b""
        #: Set once somebody has asked for the whole.
        self._full: bytes | None = None

    @property
    def type(self) -> str:
        """The event's type; empty for what is no event of ours."""
        if self._type is None:
            self._type = self._read()
        return self._type

    def json(self, *, full: bool) -> bytes:
        """The event in one line of JSON."""
        assert self.type, "nobody wants what is no event of ours"
        if not full:
            return self._thin
        if self._full is None:
            self._full = _write(_told(self._record, full=True))
        return self._full

    def _read(self) -> str:
        try:
            told = _told(self._record, full=False)
        except (EnvelopeError, ValueError, OverflowError, RecursionError) as error:
            _LEFT_OUT.inc()
            log.debug("events.foreign_record", partition=self.partition, offset=self.offset, reason=describe(error))
            return ""
        self._thin = _write(told)
        return told.type


def _told(record: ConsumerRecord[bytes, bytes], *, full: bool) -> Told:
    """The message that is told of a record.

    Raises:
        EnvelopeError, ValueError, OverflowError, RecursionError: it is no event of ours.
    """
    envelope, value = read_envelope(record.headers), record.value
    if envelope.source != USER_EVENTS.source or str(envelope.subject_id).encode() != record.key:
        raise ValueError("it has another source, or another key than its subject")
    if not _is_type(envelope.type) or not 0 < envelope.version <= _LATEST_VERSION:
        raise ValueError("its type or version is none")
    if (value is None) != (envelope.type == USER_EVENTS.tombstone_type):
        raise ValueError("erasures alone have no value")
    told = Told(
        id=envelope.event_id,
        type=envelope.type,
        time=rfc3339(envelope.time),
        user_id=envelope.subject_id,
        version=envelope.version,
        actor=envelope.actor,
        on_behalf_of=envelope.on_behalf_of,
        changed=[],
    )
    if value is None:
        told.user, told.previous = (_NULL, _NOTHING) if full else (UNSET, UNSET)
        return told
    # As text, since a decoder looks at no more than it reads.
    read = _read_value(_in_one_line(value.decode()))
    shown = _read_user(read.user)
    if (shown.id, shown.version) != (envelope.subject_id, envelope.version):
        raise ValueError("it shows another user or version than its envelope names")
    told.changed = list(read.previous)
    told.token = ConsistencyToken(envelope.subject_id, envelope.version).encode()
    if full:
        told.user, told.previous = read.user, Raw(_write(read.previous))
    return told


def _in_one_line(value: str) -> str:
    """JSON without line ends between its tokens, which would end a stream's line; ours has none."""
    if "\n" not in value and "\r" not in value:
        return value
    return json.dumps(json.loads(value), ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """The events that a client wants: of these types, or of any; of this user, or of anybody."""

    types: frozenset[str] = frozenset()
    user: UUID | None = None

    @property
    def key(self) -> bytes | None:
        """The key of that user's records."""
        return None if self.user is None else str(self.user).encode()

    @property
    def has_every_erasure(self) -> bool:
        """Whether it leaves out no tombstone."""
        return self.user is None and (not self.types or USER_EVENTS.tombstone_type in self.types)

    def wants(self, item: Item) -> bool:
        """Whether it is one of them."""
        assert isinstance(item, UserRecord)
        if self.user is not None and item.key != self.key:
            return False
        # Asked last: it reads the record.
        return item.type in self.types if self.types else bool(item.type)


#: Every type that is published now.
TYPES: Final[tuple[str, ...]] = tuple(USER_EVENTS.types())
