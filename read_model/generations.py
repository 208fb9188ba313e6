"""Generations: which of a projection's tables queries read, and how new ones are made.

The table `generations` has one row for each generation. A switch to another generation is an UPDATE of two rows,
announced on CHANNEL, and never DDL on a table that is being read. A generation is `building` until it has caught up,
`serving` while queries read it, `standby` after another took over (it is still fed, for a rollback), and `retired` once
its tables are gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias
from uuid import UUID

# Exported again for projectors, whose writers get their connection with a generation.
from chassis.postgres.database import Connection as Connection  # noqa: PLC0414
from chassis.postgres.roles import PROJECTORS
from read_model import parked_values
from read_model.catalogue import SCHEMAS
from read_model.schema import ProjectionSchema

if TYPE_CHECKING:
    from sqlalchemy import MetaData, Table
    from sqlalchemy.schema import CreateIndex, CreateTable

#: Notified, without payload, in the transaction that changes a generation's status.
CHANNEL: Final = "muster_generations"

Connect: TypeAlias = "Callable[[], AbstractAsyncContextManager[Connection]]"


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation of a projection."""

    projection: str
    number: int
    shape: int
    status: str
    #: Why it must not be fed any more; only another generation ends that.
    refusal: str | None = None


class Position(NamedTuple):
    """A checkpoint's position, and the id of the topic that it is one of, where that is known."""

    position: int
    topic_id: UUID | None


class LogName(NamedTuple):
    """A topic, and which one of that name it is."""

    topic: str
    topic_id: UUID


#: By topic and partition.
Positions: TypeAlias = "dict[tuple[str, int], Position]"

#: A switch may hold the old generation still for this long: its readers see nothing newer meanwhile.
SWITCH_SECONDS: Final = 5.0
#: The new generation's batches commit every few milliseconds.
SWITCH_POLL_SECONDS: Final = 0.005
#: Query processes follow a switch within a second, notified or not: after this time none reads the old tables.
FOLLOWED_SECONDS: Final = 10
#: So many indexes of one table are made at the same time. Each sorts on a core of its own; the other cores serve
#: clients.
INDEX_CONNECTIONS: Final = 2
#: Enough for an index over some hundred million rows on a slow disk.
INDEX_SECONDS: Final = 7200.0
#: Dropping tables waits for the feed's transaction in flight, no longer.
LOCK_TIMEOUT: Final = "5s"


# Lifts every time limit that this server knows, and takes no workers: they would use the cores that INDEX_CONNECTIONS
# leaves to others, and on two cores they made an index take a fifth longer.
UNBOUND: Final = """
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('statement_timeout', 'transaction_timeout', 'max_parallel_maintenance_workers')
"""

# Finds tables by their names: a generation of another shape may have other tables than this version would make.
_TABLES: Final = """
SELECT c.oid::regclass::text AS name FROM pg_class c
WHERE c.relkind IN ('r', 'p') AND pg_table_is_visible(c.oid) AND (c.relname = $1 OR starts_with(c.relname, $1 || '_'))
"""

# True where this user may make tables as their owner; false where one user does everything.
_HAS_OWNER: Final = """
SELECT CASE WHEN to_regrole($1) IS NULL THEN false
    ELSE pg_has_role(to_regrole($1), 'SET') AND has_schema_privilege(to_regrole($1), current_schema(), 'CREATE') END
"""

_POSITIONS: Final = """
SELECT topic, partition, position, topic_id FROM checkpoints WHERE projection = $1 AND generation = $2
ORDER BY topic, partition
"""

_PARKED: Final = "projection = $1 AND generation = $2"


class NoGenerationError(Exception):
    """There is no such generation, or none that serves: not migrated yet, or changed meanwhile by somebody else."""


class OtherBuildError(Exception):
    """A generation of another shape is being built."""


class NotCaughtUpError(Exception):
    """The generation to switch to is behind the one that serves."""


class InUseError(Exception):
    """The generation is being read."""


def tables_of(projection: str, number: int) -> MetaData:
    """The tables of one generation."""
    if projection not in SCHEMAS:
        raise NoGenerationError(f"there is no projection named {projection!r}")
    return SCHEMAS[projection].tables(number).metadata


async def read(connection: Connection, projection: str) -> list[Generation]:
    """Every generation of a projection, oldest first."""
    rows = await connection.fetch(
        "SELECT projection, generation, shape, status, refusal FROM generations WHERE projection = $1"
        " ORDER BY generation",
        projection,
    )
    return [Generation(*row.values()) for row in rows]


async def serving(connection: Connection, projection: str) -> Generation:
    """The generation that queries read.

    Raises:
        NoGenerationError: there is none.
    """
    for generation in await read(connection, projection):
        if generation.status == "serving":
            return generation
    raise NoGenerationError(f"no generation of {projection!r} serves; run `muster migrate query`")


def rollback_target(known: Sequence[Generation], number: int | None = None) -> Generation | None:
    """What a rollback goes back to of these, which are the oldest first; None where there is nothing."""
    standing_by = [one for one in known if one.status == "standby"]
    chosen = [one for one in standing_by if (one.refusal is None if number is None else one.number == number)]
    return chosen[-1] if chosen else None


async def ensure_first(connection: Connection) -> list[Generation]:
    """Give every projection without a generation its first one, serving; safe to repeat and to run concurrently.

    Returns:
        The generations that were made.
    """
    async with connection.transaction():
        # Two migrations may run at once, and only one of them may find nothing.
        await connection.execute("LOCK TABLE generations IN SHARE ROW EXCLUSIVE MODE")
        missing = [schema for schema in SCHEMAS.values() if not await read(connection, schema.name)]
        made = [await _create(connection, schema, 1, "serving") for schema in missing]
        if made:
            await connection.execute(f"NOTIFY {CHANNEL}")
    return made


async def begin(connection: Connection, projection: str, log: LogName | None = None) -> tuple[Generation, bool]:
    """The generation that is being built, made now if there is none; the flag says whether it was made.

    One that is refused, or has read of another log than `log`, can never be finished: it is retired, and another made.

    Raises:
        NoGenerationError: there is no such projection, or nothing of it serves yet.
        OtherBuildError: one is being built by another version of the code.
    """
    if projection not in SCHEMAS:
        raise NoGenerationError(f"there is no projection named {projection!r}; there are {', '.join(SCHEMAS)}")
    schema = SCHEMAS[projection]
    async with connection.transaction():
        await connection.execute("LOCK TABLE generations IN SHARE ROW EXCLUSIVE MODE")
        await serving(connection, projection)
        known = await read(connection, projection)
        for generation in known:
            if generation.status == "building":
                if generation.shape != schema.shape:
                    raise OtherBuildError(
                        f"generation {generation.number} of {projection} is being built by another version of the code"
                        f" (shape {generation.shape}, this one makes {schema.shape}): finish it there, or drop it with"
                        f" `muster rebuild retire {projection} --generation {generation.number}`"
                    )
                if await _can_be_finished(connection, generation, log):
                    return generation, False
                await retire(connection, generation)
        return await _create(connection, schema, max(one.number for one in known) + 1, "building"), True


async def _can_be_finished(connection: Connection, generation: Generation, log: LogName | None) -> bool:
    if generation.refusal is not None:
        return False
    read = await _positions(connection, generation)
    return log is None or all(
        topic == log.topic and place.topic_id in {None, log.topic_id} for (topic, _), place in read.items()
    )


async def switch(connection: Connection, old: Generation, new: Generation) -> None:
    """Let queries read `new` instead of `old`, which stands by from then on.

    The checkpoints of `old` are locked, so it stands still until this is over. `new` is still fed and must pass those
    checkpoints in every partition within SWITCH_SECONDS: no reader of `new` sees anything older than `old` showed.
    Positions on another log, as after a topic was lost, say nothing, nor do those of an `old` that is refused: whoever
    builds `new` compares the rows before.

    Raises:
        NotCaughtUpError: `new` did not pass them in time, is refused, or stood by on another log; nothing has changed.
        NoGenerationError: `old` does not serve any more, or `new` is gone.
    """
    async with connection.transaction():
        await _lock(connection, old, "serving")
        await _lock(connection, new, new.status)
        if new.refusal is not None:
            raise NotCaughtUpError(f"generation {new.number} of {new.projection} is refused: {new.refusal}")
        goal = await _goal(connection, old, new)
        await _until_passed(connection, new, goal)
        await _set_status(connection, old, "standby")
        await _set_status(connection, new, "serving")
        await connection.execute(f"NOTIFY {CHANNEL}")


async def refuse(connection: Connection, generation: Generation, reason: str) -> None:
    """Store why this generation must not be fed any more; the first reason stays."""
    await connection.execute(
        "UPDATE generations SET refusal = $3 WHERE projection = $1 AND generation = $2 AND refusal IS NULL",
        generation.projection,
        generation.number,
        reason,
    )


async def retire(connection: Connection, generation: Generation) -> None:
    """Drop a generation's tables, checkpoints and parked records; its row stays.

    Raises:
        InUseError: it serves, or served until a moment ago, so that a query process may still read it.
        NoGenerationError: its status has changed.
    """
    if generation.status not in {"standby", "building"}:
        raise InUseError(f"generation {generation.number} of {generation.projection} is {generation.status}")
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        changed = await _lock(connection, generation, generation.status)
        if generation.status == "standby" and changed < FOLLOWED_SECONDS:
            raise InUseError(
                f"generation {generation.number} of {generation.projection} served until {changed:.0f} s ago: wait"
                f" {FOLLOWED_SECONDS} s, so that every query process has followed"
            )
        await _set_status(connection, generation, "retired")
        owner = (generation.projection, generation.number)
        # Tables first: a feed's statement that waits for its checkpoint holds them already.
        await _drop_tables(connection, *owner)
        await parked_values.remove(connection, _PARKED, *owner)
        for table in ("checkpoints", "parked_versions", "counted_records"):
            await connection.execute(f"DELETE FROM {table} WHERE projection = $1 AND generation = $2", *owner)  # noqa: S608 - our names
        await connection.execute(f"NOTIFY {CHANNEL}")


async def drop_all(connection: Connection) -> None:
    """Drop every generation's tables, whatever their status: for a migration back to before there were generations."""
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
        rows = await connection.fetch("SELECT projection, generation FROM generations")
        for row in rows:
            await _drop_tables(connection, row["projection"], row["generation"])
        await connection.execute("DELETE FROM checkpoints")
        await connection.execute("DELETE FROM generations")


async def _drop_tables(connection: Connection, projection: str, number: int) -> None:
    """Drop every table with the generation's name, also those that only another version of the code knows."""
    names = [row["name"] for row in await connection.fetch(_TABLES, f"{projection}_g{number}")]
    if names:
        # One statement, since they may refer to one another.
        await connection.execute(f"DROP TABLE {', '.join(names)}")


async def _lock(connection: Connection, generation: Generation, status: str) -> float:
    """Lock the generation's row and return the seconds since its status changed."""
    row = await connection.fetchrow(
        "SELECT extract(epoch FROM clock_timestamp() - changed_at)::float8 AS age FROM generations"
        " WHERE projection = $1 AND generation = $2 AND status = $3 FOR NO KEY UPDATE",
        generation.projection,
        generation.number,
        status,
    )
    if row is None:
        raise NoGenerationError(f"generation {generation.number} of {generation.projection} is not {status} any more")
    age: float = row["age"]
    return age


async def _set_status(connection: Connection, generation: Generation, status: str) -> None:
    await connection.execute(
        "UPDATE generations SET status = $3, changed_at = clock_timestamp() WHERE projection = $1 AND generation = $2",
        generation.projection,
        generation.number,
        status,
    )


async def _goal(connection: Connection, old: Generation, new: Generation) -> dict[tuple[str, int], int]:
    """Hold the old generation's checkpoints, and return those that the new one has to pass."""
    held, reached = await _positions(connection, old, hold=True), await _positions(connection, new)
    if not same_log(held, reached) and new.status != "building":
        raise NotCaughtUpError(
            f"generation {new.number} of {new.projection} has read another topic than the one that serves"
        )
    if old.refusal is not None:
        return {}  # it may have read what is not there any more
    if not same_log(held, reached):
        held = {where: place for where, place in held.items() if _comparable(place, reached.get(where))}
    return {where: place.position for where, place in held.items()}


async def have_same_log(connection: Connection, old: Generation, new: Generation) -> bool:
    """Whether the positions of these two can be compared; those of a refused one cannot."""
    return old.refusal is None and same_log(await _positions(connection, old), await _positions(connection, new))


def same_log(some: Positions, others: Positions) -> bool:
    """Whether the others are on every topic that some are on; so are those of which that is not known."""
    if not some or not others:
        return True
    same_topics = {topic for topic, _ in some} <= {topic for topic, _ in others}
    return same_topics and all(_comparable(place, others[where]) for where, place in some.items() if where in others)


def _comparable(one: Position, other: Position | None) -> bool:
    return other is not None and (one.topic_id == other.topic_id or None in {one.topic_id, other.topic_id})


async def _positions(connection: Connection, generation: Generation, *, hold: bool = False) -> Positions:
    query = _POSITIONS + (" FOR UPDATE" if hold else "")
    rows = await connection.fetch(query, generation.projection, generation.number)
    return {(row["topic"], row["partition"]): Position(row["position"], row["topic_id"]) for row in rows}


async def _until_passed(connection: Connection, generation: Generation, goal: dict[tuple[str, int], int]) -> None:
    deadline = time.monotonic() + SWITCH_SECONDS
    while True:
        now = await _positions(connection, generation)
        behind = [where for where, position in goal.items() if where not in now or now[where].position < position]
        if not behind:
            return
        if time.monotonic() > deadline:
            where = ", ".join(str(partition) for _, partition in behind)
            raise NotCaughtUpError(
                f"generation {generation.number} of {generation.projection} did not catch up within"
                f" {SWITCH_SECONDS:g} s in partitions {where}: is it being fed?"
            )
        await asyncio.sleep(SWITCH_POLL_SECONDS)


async def add_indexes(connect: Connect, generation: Generation) -> None:
    """Make the indexes of a generation that is being built; safe to repeat.

    Its feed stands still meanwhile. Made at the end, an index costs a fraction of what maintaining it row by row would.
    """
    for table in tables_of(generation.projection, generation.number).sorted_tables:
        waiting = indexes_of(table)
        workers = [_work_off(connect, waiting) for _ in range(min(INDEX_CONNECTIONS, len(waiting)))]
        for error in await asyncio.gather(*workers, return_exceptions=True):
            if error is not None:
                raise error
        await _work_off(connect, [f"ANALYZE {table.name}"])


async def _work_off(connect: Connect, waiting: list[str]) -> None:
    async with connect() as connection:
        while waiting:
            statement = waiting.pop()
            async with connection.transaction():
                await connection.execute(UNBOUND)
                await connection.execute(statement, timeout=INDEX_SECONDS)


def indexes_of(table: Table) -> list[str]:
    """The statements that make a table's indexes, beside its primary key."""
    from sqlalchemy.schema import CreateIndex  # noqa: PLC0415 - it takes 15 MB, and tables are seldom made

    return [
        _ddl(CreateIndex(index, if_not_exists=True)) for index in sorted(table.indexes, key=lambda one: str(one.name))
    ]


async def _create(connection: Connection, schema: ProjectionSchema, number: int, status: str) -> Generation:
    from sqlalchemy.schema import CreateTable  # noqa: PLC0415 - it takes 15 MB, and tables are seldom made

    has_owner = await connection.fetchval(_HAS_OWNER, PROJECTORS)
    if has_owner:
        await connection.execute(f"SET LOCAL ROLE {PROJECTORS}")
    for table in schema.tables(number).metadata.sorted_tables:
        await connection.execute(_ddl(CreateTable(table)))
        if status == "serving":
            for statement in indexes_of(table):
                await connection.execute(statement)
    if has_owner:
        await connection.execute("RESET ROLE")
    await connection.execute(
        "INSERT INTO generations (projection, generation, shape, status) VALUES ($1, $2, $3, $4)",
        schema.name,
        number,
        schema.shape,
        status,
    )
    return Generation(schema.name, number, schema.shape, status)


def _ddl(element: CreateTable | CreateIndex) -> str:
    from sqlalchemy.dialects import postgresql  # noqa: PLC0415 - it takes 15 MB, and tables are seldom made

    return str(element.compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
