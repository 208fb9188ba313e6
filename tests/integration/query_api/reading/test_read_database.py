"""Statements on lent connections: all are served, and what goes wrong on one connection stays there."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from chassis.postgres.database import PLAN_BY_VALUES, DatabaseUnavailableError
from chassis.settings import PostgresAddress
from query_api.reading.database import ReadDatabase, ReadStatement
from tests.integration.query_api.read_side import ReadSide
from tests.servers.private_servers import nowhere
from tests.waiting import until

SECONDS = 5.0


@pytest.fixture
async def two(query_database: PostgresAddress) -> AsyncIterator[ReadDatabase]:
    address = replace(query_database, pool_size=1, max_overflow=1)
    async with ReadDatabase.open(address, application="lending") as database:
        yield database


async def opened(read_side: ReadSide) -> int:
    count = await read_side.connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lending' AND datname = current_database()"
    )
    return int(count)


async def test_no_more_are_opened_than_allowed_and_all_are_served(two: ReadDatabase, read_side: ReadSide) -> None:
    answers = await asyncio.gather(*(two.fetch(ReadStatement("SELECT $1::int", [n], SECONDS)) for n in range(50)))

    assert [rows[0][0] for rows in answers] == list(range(50))
    assert await opened(read_side) == 2


async def test_a_cancelled_request_loses_no_connection(two: ReadDatabase, read_side: ReadSide) -> None:
    for _ in range(5):
        slow = [asyncio.ensure_future(two.fetch(ReadStatement("SELECT pg_sleep(60)", [], SECONDS))) for _ in range(4)]
        await until(lambda: sleeping(read_side), within=5, what="two statements run, two requests wait")
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)

    answers = await asyncio.gather(*(two.fetch(ReadStatement("SELECT 1", [], SECONDS)) for _ in range(10)))
    assert len(answers) == 10


async def test_statements_have_one_plan_and_a_plan_for_values_of_its_own_is_for_one_statement(
    query_database: PostgresAddress,
) -> None:
    sql = "SELECT id FROM users_g1 WHERE id = ANY($1::uuid[]) LIMIT $2"
    async with ReadDatabase.open(replace(query_database, pool_size=1, max_overflow=0), application="plans") as one:
        for _ in range(3):
            await one.fetch(ReadStatement(sql, [[], 1], SECONDS))
            await one.fetch(ReadStatement(sql, [[], 1], SECONDS, PLAN_BY_VALUES))
            await one.fetch_limited(sql, [[], 1], limit_ms=1000)
        plans = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = $1"
        [counts] = await one.fetch(ReadStatement(plans, [sql], SECONDS))

    assert tuple(counts) == (3, 6)


async def sleeping(read_side: ReadSide) -> bool:
    count = await read_side.connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
        " AND datname = current_database()"
    )
    return int(count) >= 2


async def test_a_refused_statement_keeps_its_connection_and_a_timeout_does_not(
    two: ReadDatabase, read_side: ReadSide
) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await two.fetch(ReadStatement("SELECT 1/0", [], SECONDS))
    first = (await two.fetch(ReadStatement("SELECT pg_backend_pid()", [], SECONDS)))[0][0]
    with pytest.raises(DatabaseUnavailableError):
        await two.fetch(ReadStatement("SELECT pg_sleep(60)", [], 0.05))
    second = (await two.fetch(ReadStatement("SELECT pg_backend_pid()", [], SECONDS)))[0][0]

    assert first != second
    assert await opened(read_side) <= 2


async def test_a_connection_that_the_server_ended_is_replaced(two: ReadDatabase, read_side: ReadSide) -> None:
    [[pid]] = await two.fetch(ReadStatement("SELECT pg_backend_pid()", [], SECONDS))
    await read_side.connection.execute("SELECT pg_terminate_backend($1)", pid)

    async def gone() -> bool:
        return await opened(read_side) == 0

    await until(gone, within=5, what="the server ended it")
    assert await two.fetch(ReadStatement("SELECT 1", [], SECONDS))


async def test_a_server_that_ends_its_connections_one_after_the_other_is_asked_on_a_new_one(
    two: ReadDatabase, read_side: ReadSide
) -> None:
    await asyncio.gather(*(two.fetch(ReadStatement("SELECT 1", [], SECONDS)) for _ in range(50)))
    assert await opened(read_side) == 2
    now = await read_side.connection.fetchval("SELECT clock_timestamp()")

    # Whichever of them runs it is ended by it.
    end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = pg_backend_pid() AND backend_start < $1"
    assert await two.fetch(ReadStatement(end, [now], SECONDS)) == []


async def test_a_transaction_on_a_connection_that_the_server_ended_is_begun_on_another(
    two: ReadDatabase, read_side: ReadSide
) -> None:
    [[pid]] = await two.fetch(ReadStatement("SELECT pg_backend_pid()", [], SECONDS))
    await read_side.connection.execute("SELECT pg_terminate_backend($1)", pid)

    [[other]] = await two.fetch(ReadStatement("SELECT pg_backend_pid()", [], SECONDS, PLAN_BY_VALUES))

    assert other != pid


async def test_a_server_that_is_not_there_is_a_refusal_each_time() -> None:
    async with ReadDatabase.open(replace(nowhere(), pool_size=1, max_overflow=0), application="lending") as database:
        for _ in range(3):
            with pytest.raises(DatabaseUnavailableError, match="no connection to"):
                await database.fetch(ReadStatement("SELECT 1", [], SECONDS))
