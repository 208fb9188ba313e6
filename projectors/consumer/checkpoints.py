"""Checkpoints: the next position of each partition, kept where the rows are.

A checkpoint moves in the transaction that writes the rows, only forward, and only from the position that this member
last read or wrote. So rows and checkpoint agree, whoever else owned the partition for a moment: of two members that
apply the same records, one commits, and the other rolls back and reads the checkpoint again. The move is the
transaction's first statement, and a switch of generations and a retry of parked records wait for its row locks.

Rows and checkpoint are lost together or not at all, and the topic still has what was lost. So the commit does not wait
for the disk. After a crash of the server the feed finds its checkpoints moved back, reads them and goes on from there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import structlog

from chassis.postgres.database import Connection
from projectors.decoding.records import Record
from projectors.projections.projection import Insert
from projectors.trust import repairs
from projectors.trust.versions import FirstVersions, greatest_read
from read_model.generations import Generation

log = structlog.get_logger("projectors.checkpoints")


class LastRecord(NamedTuple):
    """The last record before a position: as long as it stands there, it tells one log from another."""

    offset: int
    event_id: UUID

    @classmethod
    def of(cls, record: Record) -> LastRecord | None:
        """Make it of a record; None where the record has no id, as only those of strangers."""
        for name, value in record.headers:
            if name == "ce_id" and value is not None:
                try:
                    return cls(record.offset, UUID(value.decode("ascii")))
                except ValueError:
                    break
        return None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The place where a partition goes on. Everything that was on it at `seen_until` has been applied."""

    position: int
    #: Both times are by the database server's clock; `now` is when this was read.
    seen_until: datetime | None
    now: datetime
    topic_id: UUID
    last: LastRecord | None
    #: When the generation was made: of all that it has read, nothing was read before.
    begun: datetime
    #: When the newest record before the position was appended, in milliseconds since 1970, by the broker; None where a
    #: version before has moved it, which does not keep this.
    newest: int | None = None

    @property
    def read_from(self) -> int:
        """The last record is read once more, to be compared, and dropped."""
        return self.position if self.last is None else self.last.offset


@dataclass(frozen=True, slots=True)
class Move:
    """A step of one partition from `expected` to `position`."""

    partition: int
    expected: int
    position: int
    seen_until: datetime | None
    #: The last record with an id; None where there was none.
    last: LastRecord | None = None
    #: As that of a checkpoint, at `position`.
    newest: int | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """The notice to those who wait, once the transaction has committed."""

    channel: str
    payload: str


class CheckpointMovedError(Exception):
    """Another member has moved a checkpoint, or the generation is gone: nothing was written, read checkpoints again."""


_CREATE: Final = """
INSERT INTO checkpoints
    (projection, generation, topic, partition, position, topic_id, newest, newest_position, repaired_until)
SELECT projection, generation, $3, i.partition, i.position, $6, 0, i.position,
    (SELECT max(r.position) FROM repaired_users r WHERE r.topic_id = $6 AND r.partition = i.partition)
FROM generations, unnest($4::int[], $5::bigint[]) AS i (partition, position)
WHERE projection = $1 AND generation = $2 AND status <> 'retired'
ON CONFLICT DO NOTHING
"""

# A checkpoint from before logs were told apart takes the one that is there for its own, once.
_ADOPT: Final = """
UPDATE checkpoints c SET topic_id = $5, repaired_until =
    (SELECT max(r.position) FROM repaired_users r WHERE r.topic_id = $5 AND r.partition = c.partition)
WHERE projection = $1 AND generation = $2 AND topic = $3 AND partition = ANY($4::int[]) AND topic_id IS NULL
RETURNING partition
"""

_READ: Final = """
SELECT partition, position, seen_until, clock_timestamp() AS now, topic_id, record_offset, record_id,
    CASE WHEN newest_position = position THEN newest END AS newest,
    (SELECT created_at FROM generations WHERE projection = $1 AND generation = $2) AS begun
FROM checkpoints WHERE projection = $1 AND generation = $2 AND topic = $3 AND partition = ANY($4::int[])
"""

# Rows are locked in one order, so that two members whose batches overlap in several partitions never deadlock. The
# condition is repeated: a row that changed while its lock was waited for is judged again by its new values. The notice
# goes out with the commit. It takes a lock of the whole cluster, but only for a commit that waits for no disk.
_MOVED: Final = """
WITH moves AS MATERIALIZED (
    SELECT * FROM unnest($4::int[], $5::bigint[], $6::bigint[], $7::timestamptz[], $8::bigint[], $9::uuid[],
        $10::bigint[]) AS m (partition, expected, position, seen_until, record_offset, record_id, newest)
), held AS MATERIALIZED (
    SELECT c.partition, m.expected, m.position, m.seen_until, m.record_offset, m.record_id, m.newest,
        coalesce(c.repaired_until, 0) > m.expected AS repaired
    FROM checkpoints c JOIN moves m ON c.partition = m.partition AND c.position = m.expected
    WHERE c.projection = $1 AND c.generation = $2 AND c.topic = $3
    ORDER BY c.partition FOR UPDATE OF c
), moved AS (
    UPDATE checkpoints c
    SET position = held.position, seen_until = least(greatest(c.seen_until, held.seen_until), now()), moved_at = now(),
        record_offset = coalesce(held.record_offset, c.record_offset),
        record_id = coalesce(held.record_id, c.record_id), newest = held.newest, newest_position = held.position
    FROM held
    WHERE c.projection = $1 AND c.generation = $2 AND c.topic = $3
        AND c.partition = held.partition AND c.position = held.expected
"""
_ANY_PARKED: Final = """
EXISTS (SELECT FROM parked_records WHERE projection = $1 AND generation = $2 AND user_id IS NOT NULL)
"""
_REPAIRED: Final = "EXISTS (SELECT FROM held WHERE held.repaired)"
# True where a subject's version does not follow what is known of it: in the tables, or parked.
_JUMPED: Final = """
EXISTS (SELECT FROM unnest($13::uuid[], $14::bigint[]) AS i (id, version) WHERE {greatest} < i.version - 1)
"""
_MOVE: Final = f"""
{_MOVED} RETURNING 1)
SELECT (SELECT count(*) FROM moved) AS moved, {_ANY_PARKED} AS parked, {_REPAIRED} AS repaired, {_JUMPED} AS jumped,
    set_config('synchronous_commit', 'off', true),
    (SELECT pg_notify($11, $12) WHERE $11 IS NOT NULL)
"""  # noqa: S608 - constants of ours
_MOVE_AND_WRITE: Final = f"""
{_MOVED} AND (SELECT count(*) FROM held) = (SELECT count(*) FROM moves) AND NOT {_ANY_PARKED}
    AND NOT {_REPAIRED} AND NOT {_JUMPED} RETURNING 1),
written AS (%s)
SELECT EXISTS (SELECT FROM moved) AS moved, set_config('synchronous_commit', 'off', true),
    (SELECT pg_notify($11, $12) WHERE EXISTS (SELECT FROM moved))
"""  # noqa: S608 - constants of ours
#: The parameters of a move; those of what is written with it come behind them.
_PARAMETERS: Final = 14
_PARAMETER: Final = re.compile(r"\$(\d+)")


async def read(
    connection: Connection, generation: Generation, topic: str, starts: Mapping[int, int], topic_id: UUID
) -> dict[int, Checkpoint]:
    """The checkpoints of these partitions, made where there are none, at their starts on the topic that is there now.

    Empty once the generation is gone.
    """
    owner = (generation.projection, generation.number, topic, list(starts))
    rows = await connection.fetch(_READ, *owner)
    if len(rows) < len(starts):
        async with connection.transaction():
            await repairs.take_turn(connection)
            await connection.execute(_CREATE, *owner, list(starts.values()), topic_id)
        rows = await connection.fetch(_READ, *owner)
    if any(row["topic_id"] is None for row in rows):
        async with connection.transaction():
            await repairs.take_turn(connection)
            adopted = await connection.fetch(_ADOPT, *owner, topic_id)
        log.warning(
            "checkpoints.topic_adopted", projection=generation.projection, generation=generation.number,
            partitions=sorted(row["partition"] for row in adopted), topic_id=str(topic_id),
        )  # fmt: skip
    return {row["partition"]: _checkpoint(row, topic_id) for row in rows}


def _checkpoint(row: asyncpg.Record, adopted: UUID) -> Checkpoint:
    last = None if row["record_id"] is None else LastRecord(row["record_offset"], row["record_id"])
    return Checkpoint(
        row["position"], row["seen_until"], row["now"], row["topic_id"] or adopted, last, row["begun"], row["newest"]
    )


class Moved(NamedTuple):
    """The findings of a move beside the checkpoints, which make the long way necessary."""

    #: True where this generation has parked records that others wait behind. "Yes" may be outdated by the time it is
    #: read. "No" is not, for these partitions: only who moves their checkpoints can park a record of theirs.
    parked: bool
    #: True where the partitions still have records of repaired users that do not count.
    repaired: bool
    #: True where a version does not follow what is known.
    jumped: bool


class Checkpoints:
    """The checkpoints of one generation on one topic."""

    def __init__(self, generation: Generation, topic: str, tables: Sequence[str]) -> None:
        """`tables` are those in which the generation's versions are."""
        self._generation = generation
        self._topic = topic
        greatest = greatest_read(tables, "$1", "$2")
        self._move = _MOVE.replace("{greatest}", greatest)
        self._move_and_write = _MOVE_AND_WRITE.replace("{greatest}", greatest)

    async def move(
        self, connection: Connection, moves: Sequence[Move], first: FirstVersions, notice: Notice | None = None
    ) -> Moved:
        """Move these, first of all in the caller's transaction, which will not wait for the disk.

        Raises:
            CheckpointMovedError: one of them is not where it was expected; roll back.
        """
        row = await connection.fetchrow(self._move, *self._arguments(moves, first, notice))
        if row is None or row["moved"] != len(moves):
            raise CheckpointMovedError(f"a checkpoint of {self._generation} is not where this member left it")
        return Moved(row["parked"], row["repaired"], row["jumped"])

    async def move_and_write(
        self, connection: Connection, moves: Sequence[Move], first: FirstVersions, *, notice: Notice, insert: Insert
    ) -> bool:
        """Move these and write these rows in one statement, a transaction by itself; or do neither.

        The statement sees the tables as they were before it waited for the checkpoints' locks. That is enough: another
        member that held them has moved the checkpoints, a repair has marked them, and a retry of parked records leaves
        some to be seen. Only a carry-over does neither, so this is not for a generation that is being built.

        Returns:
            False when a checkpoint is not where it was expected, or there is anything that `Moved` would tell of.
        """
        moved: bool = await connection.fetchval(
            _together(self._move_and_write, insert.statement),
            *self._arguments(moves, first, notice),
            *insert.arguments,
        )
        return moved

    def _arguments(self, moves: Sequence[Move], first: FirstVersions, notice: Notice | None) -> tuple[Any, ...]:
        return (
            self._generation.projection,
            self._generation.number,
            self._topic,
            [move.partition for move in moves],
            [move.expected for move in moves],
            [move.position for move in moves],
            [move.seen_until for move in moves],
            [move.last and move.last.offset for move in moves],
            [move.last and move.last.event_id for move in moves],
            [move.newest for move in moves],
            notice and notice.channel,
            notice and notice.payload,
            first.subjects,
            first.versions,
        )


@lru_cache
def _together(move: str, statement: str) -> str:
    """Made once: a connection knows its prepared statements by their texts."""
    return move % _PARAMETER.sub(lambda found: f"${int(found[1]) + _PARAMETERS}", statement)
