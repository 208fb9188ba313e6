"""The sizes with which `python -m benchmarks.scale` reckons are those that rows have; and a backlog is publishable."""

from uuid import uuid4

import asyncpg
import pytest

from benchmarks.population import fill_command, fill_query
from benchmarks.relay.backlog import append_many
from benchmarks.scale import measured
from chassis.settings import PostgresAddress
from events.user_events import USER_EVENTS
from outbox.damage import Examiner
from tests.integration.outbox.traffic import append

#: Enough for whole pages; sizes need no more.
USERS = 3000
ROWS = 500
#: As docs/benchmarks/relay.md has it.
VALUE = b"x" * 347


async def size(connection: asyncpg.Connection, table: str) -> float:
    """Bytes of a table with its indexes."""
    return float(await connection.fetchval("SELECT pg_total_relation_size($1::text::regclass)", table))


async def test_a_user_takes_as_much_as_the_plans_say(
    command_database: PostgresAddress, query_database: PostgresAddress
) -> None:
    command = await asyncpg.connect(**command_database.connect_arguments)
    query = await asyncpg.connect(**query_database.connect_arguments)
    try:
        await fill_command(command, USERS)
        await fill_query(query, USERS)

        assert await size(command, "users") / USERS == pytest.approx(measured.COMMAND_USER, rel=0.25)
        assert await size(query, "users_g1") / USERS == pytest.approx(measured.QUERY_USERS_ROW, rel=0.25)
    finally:
        await command.close()
        await query.close()


async def test_a_row_of_the_outbox_takes_as_much_as_the_plans_say(command_database: PostgresAddress) -> None:
    connection = await asyncpg.connect(**command_database.connect_arguments)
    try:
        async with connection.transaction():
            for _ in range(ROWS):
                await append(connection, uuid4(), 1, VALUE)

        assert await size(connection, "outbox") / ROWS == pytest.approx(measured.OUTBOX_ROW, rel=0.25)
    finally:
        await connection.close()


async def test_a_backlog_that_the_server_makes_has_no_damaged_row(command_database: PostgresAddress) -> None:
    connection = await asyncpg.connect(**command_database.connect_arguments)
    try:
        await append_many(connection, ROWS)
        rows = await connection.fetch("SELECT * FROM outbox")
    finally:
        await connection.close()

    examiner = Examiner(USER_EVENTS)
    assert len({row["event_id"] for row in rows}) == ROWS
    assert [damage for row in rows if (damage := examiner.damage_of(row))] == []
