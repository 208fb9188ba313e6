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
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from chassis.postgres.database import Connection
from projectors.projections.projection import Insert
from read_model.generations import Generation


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a partition goes on. Everything that was on it at `seen_until` has been applied."""

    position: int
    seen_until: datetime | None


@dataclass(frozen=True, slots=True)
class Move:
    """A step of one partition from `expected` to `position`."""

    partition: int
    expected: int
    position: int
    seen_until: datetime | None


@dataclass(frozen=True, slots=True)
class Notice:
    """What those who wait are told once the transaction has committed."""

    channel: str
    payload: str


class CheckpointMovedError(Exception):
    """Another member has moved a checkpoint, or the generation is gone: nothing was written, read checkpoints again."""


_CREATE: Final = """
INSERT INTO checkpoints (projection, generation, topic, partition, position)
SELECT projection, generation, $3, unnest($4::int[]), 0 FROM generations
WHERE projection = $1 AND generation = $2 AND status <> 'retired'
ON CONFLICT DO NOTHING
"""

_READ: Final = """
SELECT partition, position, seen_until FROM checkpoints
WHERE projection = $1 AND generation = $2 AND topic = $3 AND partition = ANY($4::int[])
"""

# Rows are locked in one order, so that two members whose batches overlap in several partitions never deadlock. The
# condition is repeated: a row that changed while its lock was waited for is judged again by its new values. The notice
# goes out with the commit. It takes a lock of the whole cluster, but only for a commit that waits for no disk.
_MOVED: Final = """
WITH moves AS MATERIALIZED (
    SELECT * FROM unnest($4::int[], $5::bigint[], $6::bigint[], $7::timestamptz[])
        AS m (partition, expected, position, seen_until)
), held AS MATERIALIZED (
    SELECT c.partition, m.expected, m.position, m.seen_until
    FROM checkpoints c JOIN moves m ON c.partition = m.partition AND c.position = m.expected
    WHERE c.projection = $1 AND c.generation = $2 AND c.topic = $3
    ORDER BY c.partition FOR UPDATE OF c
), moved AS (
    UPDATE checkpoints c
    SET position = held.position, seen_until = greatest(c.seen_until, held.seen_until), moved_at = now()
    FROM held
    WHERE c.projection = $1 AND c.generation = $2 AND c.topic = $3
        AND c.partition = held.partition AND c.position = held.expected
"""
_ANY_PARKED: Final = """
EXISTS (SELECT FROM parked_records WHERE projection = $1 AND generation = $2 AND user_id IS NOT NULL)
"""
_MOVE: Final = f"""
{_MOVED} RETURNING 1)
SELECT (SELECT count(*) FROM moved) AS moved, {_ANY_PARKED} AS parked,
    set_config('synchronous_commit', 'off', true),
    (SELECT pg_notify($8, $9) WHERE $8 IS NOT NULL)
"""  # noqa: S608 - constants of ours
_MOVE_AND_WRITE: Final = f"""
{_MOVED} AND (SELECT count(*) FROM held) = (SELECT count(*) FROM moves) AND NOT {_ANY_PARKED} RETURNING 1),
written AS (%s)
SELECT EXISTS (SELECT FROM moved) AS moved, set_config('synchronous_commit', 'off', true),
    (SELECT pg_notify($8, $9) WHERE EXISTS (SELECT FROM moved))
"""  # noqa: S608 - constants of ours
#: The parameters of a move; those of what is written with it come behind them.
_PARAMETERS: Final = 9
_PARAMETER: Final = re.compile(r"\$(\d+)")


async def read(
    connection: Connection, generation: Generation, topic: str, partitions: Sequence[int]
) -> dict[int, Checkpoint]:
    """The checkpoints of these partitions, made at 0 where there are none; empty once the generation is gone."""
    owner = (generation.projection, generation.number, topic, list(partitions))
    rows = await connection.fetch(_READ, *owner)
    if len(rows) < len(partitions):
        await connection.execute(_CREATE, *owner)
        rows = await connection.fetch(_READ, *owner)
    return {row["partition"]: Checkpoint(row["position"], row["seen_until"]) for row in rows}


async def move(
    connection: Connection, generation: Generation, topic: str, moves: Sequence[Move], notice: Notice | None = None
) -> bool:
    """Move these checkpoints, first of all in the caller's transaction, which will not wait for the disk.

    Returns:
        Whether this generation has parked records that others wait behind. "Yes" may be outdated by the time it is
        read. "No" is not, for these partitions: only who moves their checkpoints can park a record of theirs.

    Raises:
        CheckpointMovedError: one of them is not where it was expected; roll back.
    """
    row = await connection.fetchrow(_MOVE, *_arguments(generation, topic, moves, notice))
    if row is None or row["moved"] != len(moves):
        raise CheckpointMovedError(f"a checkpoint of {generation} is not where this member left it")
    return bool(row["parked"])


async def move_and_write(  # noqa: PLR0913 - as `move`, and what is written
    connection: Connection, generation: Generation, topic: str, moves: Sequence[Move], *, notice: Notice, insert: Insert
) -> bool:
    """Move these checkpoints and write these rows in one statement, a transaction by itself; or do neither.

    The statement sees the tables as they were before it waited for the checkpoints' locks. That is enough: another
    member that held them has moved the checkpoints, and a retry of parked records leaves some to be seen. Only a
    carry-over does neither, so this is not for a generation that is being built.

    Returns:
        False when a checkpoint is not where it was expected, or records are parked that others wait behind.
    """
    moved: bool = await connection.fetchval(
        _together(insert.statement), *_arguments(generation, topic, moves, notice), *insert.arguments
    )
    return moved


@lru_cache
def _together(statement: str) -> str:
    """Made once: a connection knows its prepared statements by their texts."""
    return _MOVE_AND_WRITE % _PARAMETER.sub(lambda found: f"${int(found[1]) + _PARAMETERS}", statement)


def _arguments(generation: Generation, topic: str, moves: Sequence[Move], notice: Notice | None) -> tuple[Any, ...]:
    return (
        generation.projection,
        generation.number,
        topic,
        [move.partition for move in moves],
        [move.expected for move in moves],
        [move.position for move in moves],
        [move.seen_until for move in moves],
        notice and notice.channel,
        notice and notice.payload,
    )
