"""What an operator does with parked records: look, retry in order, discard.

A retry holds the checkpoint of the record's partition, as a feed's own transaction does, so no record of the same
subject can slip past it: a subject's records are applied in the order of the topic, or stay parked in that order.

A suspicious record is not applied by anybody: a rebuild would park it again. It is discarded, or its user repaired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from chassis.postgres.database import Connection, Database
from projectors.consumer.batches import INAPPLICABLE_ERRORS
from projectors.consumer.parking import SUSPICIOUS, unpack_headers
from projectors.decoding.records import DecodedEvent, RecordDecoder
from projectors.projections.catalogue import PROJECTIONS
from projectors.projections.projection import Projection
from read_model import generations, parked_values
from read_model.generations import Generation

#: A list has so many at most unless it is asked for others: as many as a terminal can show.
LIST_RECORDS: Final = 500
#: Above what the columns of an id can hold: generation and partition an int, the offset a bigint.
_INT: Final = 2**31
_BIGINT: Final = 2**63


class NoSuchRecordError(Exception):
    """Nothing is parked under that id."""


class SuspiciousError(Exception):
    """The record is not ours, as far as is known, and is not applied."""


class OtherShapeError(Exception):
    """The generation belongs to another version of the code, which must do this."""


class RecordId(NamedTuple):
    """Names a parked record: `users/1/3/42` is offset 42 of partition 3, in generation 1 of `users`."""

    projection: str
    generation: int
    partition: int
    offset: int

    def __str__(self) -> str:
        """The text form."""
        return f"{self.projection}/{self.generation}/{self.partition}/{self.offset}"

    @classmethod
    def parse(cls, text: str) -> RecordId:
        """Read the text form.

        Raises:
            NoSuchRecordError: it is not one.
        """
        projection, *numbers = text.split("/")
        try:
            generation, partition, offset = map(int, numbers)
        except ValueError as error:
            raise NoSuchRecordError(f"{text!r} is no id of a parked record, such as users/1/3/42") from error
        if not (0 <= generation < _INT and 0 <= partition < _INT and 0 <= offset < _BIGINT):
            raise NoSuchRecordError(f"nothing is parked under {text}")
        return cls(projection, generation, partition, offset)


@dataclass(frozen=True, slots=True)
class ParkedRecord:
    """A parked record; readable like one from Kafka."""

    id: RecordId
    topic: str
    #: Who waits behind it; nobody where it is suspicious.
    subject_id: UUID | None
    #: Whom a suspicious record names; None where its key is no id.
    suspect_id: UUID | None
    error: str | None
    key: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    value: bytes | None
    recorded_at: datetime
    parked_at: datetime

    @property
    def is_suspicious(self) -> bool:
        """Whether it is somebody else's, for all that is known."""
        return self.subject_id is None

    @property
    def partition(self) -> int:
        """Where it was."""
        return self.id.partition

    @property
    def offset(self) -> int:
        """Where it was."""
        return self.id.offset

    @property
    def timestamp(self) -> int:
        """The record's own, in milliseconds since 1970."""
        return int(self.recorded_at.timestamp() * 1000)


@dataclass(frozen=True, slots=True)
class Summary:
    """A parked record in one line."""

    id: RecordId
    #: Whom it names; None where its key is no id.
    subject_id: UUID | None
    #: Then nobody waits behind it.
    suspicious: bool
    #: None: it waits behind an earlier one.
    error: str | None
    parked_at: datetime
    bytes: int


class Totals(NamedTuple):
    """How many records are parked, and how many of these are suspicious."""

    records: int
    suspicious: int


class Waiting(NamedTuple):
    """The queue that a record is in: the first LIST_RECORDS before it and behind it, and how many there are."""

    before: Sequence[Summary]
    behind: Sequence[Summary]
    all_before: int
    all_behind: int


@dataclass(frozen=True, slots=True)
class Counted:
    """Records that were only counted, in one partition of one generation."""

    projection: str
    generation: int
    topic: str
    partition: int
    records: int
    first_offset: int
    last_offset: int


@dataclass(frozen=True, slots=True)
class WorkedOff:
    """What a retry or a discard did with a queue: how many records are gone from it, and how many are left."""

    applied: int
    discarded: int
    remaining: int


_SERVING_COUNT: Final = """
SELECT count(*) FROM parked_records JOIN generations USING (projection, generation) WHERE status = 'serving'
"""
_SUMMARIES: Final = f"""
SELECT projection, generation, partition, record_offset, coalesce(user_id, suspect_id) AS user_id,
    {SUSPICIOUS} AS suspicious, error, parked_at,
    coalesce(octet_length(p.value), octet_length(v.value), 0) AS bytes
FROM parked_records p LEFT JOIN parked_values v ON v.digest = p.value_digest
WHERE ($1::text IS NULL OR projection = $1)
    AND ($3::text IS NULL OR (projection, generation, partition, record_offset) > ($3, $4::int, $5::int, $6::bigint))
ORDER BY projection, generation, partition, record_offset LIMIT $2
"""  # noqa: S608 - our own text

_TOTALS: Final = f"""
SELECT count(*) AS records, count(*) FILTER (WHERE {SUSPICIOUS}) AS suspicious FROM parked_records
"""  # noqa: S608 - our own text

_WHOLE: Final = """
SELECT p.*, coalesce(p.value, v.value) AS bytes FROM parked_records p
LEFT JOIN parked_values v ON v.digest = p.value_digest
"""
_ONE: Final = f"""
{_WHOLE} WHERE projection = $1 AND generation = $2 AND partition = $3 AND record_offset = $4
"""

# What is suspicious waits for a discard or a repair.
_QUEUES: Final = f"""
SELECT projection, generation, user_id, count(*) AS records
FROM parked_records WHERE NOT ({SUSPICIOUS}) AND ($1::text IS NULL OR projection = $1)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""  # noqa: S608 - our own text

_LOCK: Final = """
SELECT FROM checkpoints c WHERE projection = $1 AND generation = $2 AND EXISTS (
    SELECT FROM parked_records p WHERE p.projection = $1 AND p.generation = $2 AND p.user_id = $3
        AND p.topic = c.topic AND p.partition = c.partition
) ORDER BY topic, partition FOR UPDATE
"""

_QUEUE: Final = f"""
{_WHOLE} WHERE projection = $1 AND generation = $2 AND user_id = $3
ORDER BY topic, partition, record_offset
"""

_QUEUE_SUMMARIES: Final = f"""
SELECT projection, generation, partition, record_offset, user_id, false AS suspicious, error, parked_at,
    coalesce(octet_length(bytes), 0) AS bytes
FROM ({_QUEUE}) AS queue WHERE (partition, record_offset) > ($5, $6) ORDER BY topic, partition, record_offset LIMIT $4
"""  # noqa: S608 - our own text
_FROM_ITS_BEGINNING: Final = (-1, -1)

_IN_QUEUE: Final = """
SELECT count(*) FILTER (WHERE (partition, record_offset) < ($4, $5)) AS before,
    count(*) FILTER (WHERE (partition, record_offset) > ($4, $5)) AS behind
FROM parked_records WHERE projection = $1 AND generation = $2 AND user_id = $3
"""

_SET_ERROR: Final = """
UPDATE parked_records SET error = $5
WHERE projection = $1 AND generation = $2 AND partition = $3 AND record_offset = $4
"""

_OF_SUSPECTS: Final = f"""
{_WHOLE} WHERE projection = $1 AND generation = $2 AND suspect_id = ANY($3::uuid[])
"""

_IS_ONE: Final = "projection = $1 AND generation = $2 AND partition = $3 AND record_offset = $4"
_ALL_SUSPICIOUS: Final = f"{SUSPICIOUS} AND ($1::text IS NULL OR projection = $1)"
_COUNTED: Final = "FROM counted_records WHERE $1::text IS NULL OR projection = $1"


async def summaries(
    database: Database, projection: str | None = None, *, after: RecordId | None = None, limit: int = LIST_RECORDS
) -> list[Summary]:
    """The first parked records, or the first after one that need not be there any more, in the order of the topic."""
    async with database.connection() as connection:
        rows = await connection.fetch(_SUMMARIES, projection, limit, *(after or (None,) * 4))
    return list(map(_summary, rows))


async def totals(database: Database) -> Totals:
    """How many are parked in all."""
    async with database.connection() as connection:
        [row] = await connection.fetch(_TOTALS)
    return Totals(**row)


async def waiting(database: Database, record: ParkedRecord) -> Waiting:
    """The queue that a record is in; nobody is in that of a suspicious one."""
    owner, place = (record.id.projection, record.id.generation, record.subject_id), record.id[2:]
    async with database.connection() as connection, connection.transaction(isolation="repeatable_read"):
        [(all_before, all_behind)] = await connection.fetch(_IN_QUEUE, *owner, *place)
        first = await _queue(connection, record)
        behind = await _queue(connection, record, place)
    return Waiting([each for each in first if each.id < record.id], behind, all_before, all_behind)


async def counted(database: Database, projection: str | None = None) -> list[Counted]:
    """Where records were only counted."""
    async with database.connection() as connection:
        rows = await connection.fetch(f"SELECT * {_COUNTED} ORDER BY 1, 2, 3, 4", projection)
    return [Counted(*row.values()) for row in rows]


async def count_serving(database: Database) -> int:
    """How many records are parked in the generations that queries read."""
    async with database.connection() as connection:
        number: int = await connection.fetchval(_SERVING_COUNT)
    return number


async def find(database: Database, record: RecordId) -> ParkedRecord:
    """One parked record.

    Raises:
        NoSuchRecordError: nothing is parked under that id.
    """
    async with database.connection() as connection:
        row = await connection.fetchrow(_ONE, *record)
    if row is None:
        raise NoSuchRecordError(f"nothing is parked under {record}")
    return _parked(row)


async def retry_record(database: Database, record: RecordId) -> WorkedOff:
    """Apply this record's queue, from its first record on, until one fails again.

    Raises:
        NoSuchRecordError: nothing is parked under that id.
        SuspiciousError: it is not to be applied.
        OtherShapeError: another version of the code has to do it.
    """
    parked = await find(database, record)
    if parked.is_suspicious:
        raise SuspiciousError(_why_not_applied(parked))
    return await _work_off(database, parked, discard=False)


def _why_not_applied(record: ParkedRecord) -> str:
    why, discard = f"{record.id} is suspicious ({record.error})", f"`muster parked discard {record.id}` removes it"
    if record.suspect_id is None:
        return f"{why}: {discard}"
    return f"{why}: `muster repair {record.suspect_id}` writes that user anew from the command side, then {discard}"


async def retry_all(database: Database, projection: str | None = None) -> WorkedOff:
    """Apply every queue of one projection, or of all; queues of generations of other shapes stay, and are counted."""
    async with database.connection() as connection:
        rows = await connection.fetch(_QUEUES, projection)
    total = WorkedOff(0, 0, 0)
    for row in rows:
        try:
            outcome = await _retry_queue(database, row)
        except NoSuchRecordError:
            continue  # somebody else has worked it off meanwhile
        except OtherShapeError:
            outcome = WorkedOff(0, 0, row["records"])
        total = WorkedOff(total.applied + outcome.applied, 0, total.remaining + outcome.remaining)
    return total


async def discard_record(database: Database, record: RecordId) -> WorkedOff:
    """Remove one parked record, and apply what waited behind it, in one transaction.

    Raises:
        NoSuchRecordError: nothing is parked under that id.
        OtherShapeError: another version of the code has to do it.
    """
    return await _work_off(database, await find(database, record), discard=True)


async def preview_discard(database: Database, record: RecordId) -> tuple[WorkedOff, list[Summary]]:
    """What a discard would do, and what would be left of the queue: it is done, and undone before anybody sees it.

    Raises:
        NoSuchRecordError: nothing is parked under that id.
        OtherShapeError: another version of the code has to do it.
    """
    parked = await find(database, record)
    async with database.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            return await _resolve(connection, parked, discard=True), await _queue(connection, parked)
        finally:
            await transaction.rollback()


async def suspicious_of(connection: Connection, generation: Generation, subjects: Sequence[UUID]) -> list[ParkedRecord]:
    """What is suspicious and names one of these, as far as it is parked."""
    owner = (generation.projection, generation.number)
    return list(map(_parked, await connection.fetch(_OF_SUSPECTS, *owner, subjects)))


async def discard_suspicious(database: Database, projection: str | None = None) -> int:
    """Remove every suspicious record of one projection, or of all, and what was only counted; return how many."""
    async with database.connection() as connection, connection.transaction():
        removed = await parked_values.remove(connection, _ALL_SUSPICIOUS, projection)
        rows = await connection.fetch(f"DELETE {_COUNTED} RETURNING records", projection)
    counted: int = sum(row["records"] for row in rows)
    return removed + counted


async def _retry_queue(database: Database, row: asyncpg.Record) -> WorkedOff:
    async with database.connection() as connection:
        first = await connection.fetchrow(_QUEUE + " LIMIT 1", row["projection"], row["generation"], row["user_id"])
    if first is None:
        raise NoSuchRecordError("the queue is empty")
    return await _work_off(database, _parked(first), discard=False)


async def _work_off(database: Database, parked: ParkedRecord, *, discard: bool) -> WorkedOff:
    async with database.connection() as connection, connection.transaction():
        outcome = await _resolve(connection, parked, discard=discard)
    if outcome.applied and parked.subject_id is not None:
        channel = PROJECTIONS[parked.id.projection].schema.channel
        async with database.connection() as connection:
            await connection.execute("SELECT pg_notify($1, $2)", channel, str(parked.subject_id))
    return outcome


async def _resolve(connection: Connection, parked: ParkedRecord, *, discard: bool) -> WorkedOff:
    """Work off the record's queue in the caller's transaction."""
    owner = (parked.id.projection, parked.id.generation)
    projection = _projection(await _generation(connection, parked.id))
    queue = [parked]
    if parked.subject_id is not None:
        await connection.execute(_LOCK, *owner, parked.subject_id)
        queue = [_parked(row) for row in await connection.fetch(_QUEUE, *owner, parked.subject_id)]
    discarded = 0
    if discard:
        discarded = await parked_values.remove(connection, _IS_ONE, *parked.id)
        queue = [item for item in queue if item.id != parked.id]
    applied = await _apply_in_order(connection, projection, queue)
    return WorkedOff(applied, discarded, len(queue) - applied)


async def _queue(
    connection: Connection, record: ParkedRecord, after: tuple[int, int] = _FROM_ITS_BEGINNING
) -> list[Summary]:
    owner = (record.id.projection, record.id.generation, record.subject_id)
    return list(map(_summary, await connection.fetch(_QUEUE_SUMMARIES, *owner, LIST_RECORDS, *after)))


async def _apply_in_order(connection: Connection, projection: Projection, queue: Sequence[ParkedRecord]) -> int:
    for applied, item in enumerate(queue):
        error = await _apply(connection, projection, item)
        if error is not None:
            await connection.execute(_SET_ERROR, *item.id, error)
            return applied
        await parked_values.remove(connection, _IS_ONE, *item.id)
    return len(queue)


async def _apply(connection: Connection, projection: Projection, item: ParkedRecord) -> str | None:
    """None when it was applied, else why not."""
    event = RecordDecoder(projection.subject).read(item)
    if not isinstance(event, DecodedEvent):
        return event.error
    try:
        async with connection.transaction():
            await projection.writer(item.id.generation).apply(connection, [event])
    except INAPPLICABLE_ERRORS as error:
        return f"{type(error).__name__}: {error}"
    return None


async def _generation(connection: Connection, record: RecordId) -> Generation:
    for generation in await generations.read(connection, record.projection):
        if generation.number == record.generation:
            return generation
    raise NoSuchRecordError(f"{record.projection} has no generation {record.generation}")


def _projection(generation: Generation) -> Projection:
    projection = PROJECTIONS.get(generation.projection)
    if projection is None or projection.shape != generation.shape:
        raise OtherShapeError(
            f"generation {generation.number} of {generation.projection} has shape {generation.shape}, which this"
            " version of the code does not write: use the version that feeds it"
        )
    return projection


def _id(row: asyncpg.Record) -> RecordId:
    return RecordId(row["projection"], row["generation"], row["partition"], row["record_offset"])


def _summary(row: asyncpg.Record) -> Summary:
    return Summary(_id(row), row["user_id"], row["suspicious"], row["error"], row["parked_at"], row["bytes"])


def _parked(row: asyncpg.Record) -> ParkedRecord:
    kept: dict[str, Any] = {
        name: row[name] for name in ("topic", "suspect_id", "error", "key", "recorded_at", "parked_at")
    }
    headers = unpack_headers(row["headers"])
    return ParkedRecord(id=_id(row), subject_id=row["user_id"], headers=headers, value=row["bytes"], **kept)
