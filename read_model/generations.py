"""Generations: which of a projection's tables queries read, and how new ones come to be.

`generations` says it, one row a generation; changing the serving one is one UPDATE, announced on CHANNEL, and never DDL
on a table that is being read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import asyncpg
from sqlalchemy import MetaData
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable

from read_model import signups, timeline, users

#: Notified, without payload, in the transaction that changes a generation's status.
CHANNEL: Final = "muster_generations"

Connection: TypeAlias = "asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]"


@dataclass(frozen=True, slots=True)
class Generation:
    """One generation of a projection."""

    projection: str
    number: int
    shape: int
    status: str


@dataclass(frozen=True, slots=True)
class Schema:
    """What a projection's generation is made of, as this version of the code knows it."""

    projection: str
    shape: int

    tables: Callable[[int], MetaData]


SCHEMAS: Final[dict[str, Schema]] = {
    schema.projection: schema
    for schema in (
        Schema(users.PROJECTION, users.SHAPE, lambda number: users.users_tables(number).metadata),
        Schema(timeline.PROJECTION, timeline.SHAPE, lambda number: timeline.timeline_tables(number).metadata),
        Schema(signups.PROJECTION, signups.SHAPE, lambda number: signups.signups_tables(number).metadata),
    )
}


class NoGenerationError(Exception):
    """No generation serves this projection: the query database was not migrated."""


def tables_of(projection: str, number: int) -> MetaData:
    """The tables of one generation."""
    if projection not in SCHEMAS:
        raise NoGenerationError(f"there is no projection named {projection!r}")
    return SCHEMAS[projection].tables(number)


async def read(connection: Connection, projection: str) -> list[Generation]:
    """Every generation of a projection, oldest first."""
    rows = await connection.fetch(
        "SELECT projection, generation, shape, status FROM generations WHERE projection = $1 ORDER BY generation",
        projection,
    )
    return [Generation(row["projection"], row["generation"], row["shape"], row["status"]) for row in rows]


async def serving(connection: Connection, projection: str) -> Generation:
    """The generation that queries read.

    Raises:
        NoGenerationError: there is none.
    """
    for generation in await read(connection, projection):
        if generation.status == "serving":
            return generation
    raise NoGenerationError(f"no generation of {projection!r} serves; run `muster migrate query`")


async def ensure_first(connection: Connection) -> list[Generation]:
    """Give every projection that has none its first generation, serving; harmless to repeat and to run twice at once.

    Returns:
        The generations that were made.
    """
    async with connection.transaction():
        # Two migrations at once must not both find nothing.
        await connection.execute("LOCK TABLE generations IN SHARE ROW EXCLUSIVE MODE")
        missing = [schema for schema in SCHEMAS.values() if not await read(connection, schema.projection)]
        made = [await _create(connection, schema, 1, "serving") for schema in missing]
        if made:
            await connection.execute(f"NOTIFY {CHANNEL}")
    return made


async def _create(connection: Connection, schema: Schema, number: int, status: str) -> Generation:
    for table in tables_of(schema.projection, number).sorted_tables:
        await connection.execute(_ddl(CreateTable(table)))
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            await connection.execute(_ddl(CreateIndex(index)))
    await connection.execute(
        "INSERT INTO generations (projection, generation, shape, status) VALUES ($1, $2, $3, $4)",
        schema.projection,
        number,
        schema.shape,
        status,
    )
    return Generation(schema.projection, number, schema.shape, status)


def _ddl(element: CreateTable | CreateIndex) -> str:
    return str(element.compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
