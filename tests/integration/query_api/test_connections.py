"""The lending of connections: never too many, in the order of asking, and nothing lost whatever is cancelled."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from chassis.database import DatabaseUnavailableError
from chassis.settings import PostgresAddress
from query_api.connections import Connections, Statement
from tests.integration.query_api.outage import nowhere
from tests.integration.query_api.read_side import ReadSide
from tests.waiting import until

SECONDS = 5.0


@pytest.fixture
async def two(query_database: PostgresAddress) -> AsyncIterator[Connections]:
    address = replace(query_database, pool_size=1, max_overflow=1)
    async with Connections.open(address, application="lending") as connections:
        yield connections


async def opened(read_side: ReadSide) -> int:
    count = await read_side.connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lending' AND datname = current_database()"
    )
    return int(count)


async def test_no_more_are_opened_than_allowed_and_all_are_served(two: Connections, read_side: ReadSide) -> None:
    answers = await asyncio.gather(*(two.fetch(Statement("SELECT $1::int", [n], SECONDS)) for n in range(50)))

    assert [rows[0][0] for rows in answers] == list(range(50))
    assert await opened(read_side) == 2


async def test_who_waits_is_served_in_the_order_of_asking(two: Connections) -> None:
    held = [await two.lend(), await two.lend()]
    served: list[int] = []

    async def ask(number: int) -> None:
        connection = await two.lend()
        served.append(number)
        two.give_back(connection)

    asking = [asyncio.ensure_future(ask(number)) for number in range(10)]
    await asyncio.sleep(0)
    two.give_back(held[0])
    await asyncio.gather(*asking)
    two.give_back(held[1])

    assert served == list(range(10))


async def test_who_waits_in_vain_is_refused_and_nothing_is_lost(two: Connections) -> None:
    held = [await two.lend(), await two.lend()]

    with pytest.raises(DatabaseUnavailableError, match="busy for 1 s"):
        await two.lend()
    for connection in held:
        two.give_back(connection)
    again = [await two.lend(), await two.lend()]
    assert set(again) == set(held)
    for connection in again:
        two.give_back(connection)


async def test_a_cancelled_request_loses_no_connection(two: Connections, read_side: ReadSide) -> None:
    for _ in range(5):
        slow = [asyncio.ensure_future(two.fetch(Statement("SELECT pg_sleep(60)", [], SECONDS))) for _ in range(4)]
        await until(lambda: sleeping(read_side), within=5, what="two statements run, two requests wait")
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)

    answers = await asyncio.gather(*(two.fetch(Statement("SELECT 1", [], SECONDS)) for _ in range(10)))
    assert len(answers) == 10


async def sleeping(read_side: ReadSide) -> bool:
    count = await read_side.connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
        " AND datname = current_database()"
    )
    return int(count) >= 2


async def test_a_turn_that_comes_to_a_cancelled_waiter_goes_to_the_next(two: Connections) -> None:
    held = [await two.lend(), await two.lend()]
    first, second = asyncio.ensure_future(two.lend()), asyncio.ensure_future(two.lend())
    await asyncio.sleep(0)

    two.give_back(held[0])
    first.cancel()

    assert await asyncio.wait_for(second, SECONDS) is held[0]
    assert first.cancelled()
    for connection in held:
        two.give_back(connection)


async def test_a_refused_statement_keeps_its_connection_and_a_timeout_does_not(
    two: Connections, read_side: ReadSide
) -> None:
    with pytest.raises(asyncpg.DivisionByZeroError):
        await two.fetch(Statement("SELECT 1/0", [], SECONDS))
    first = (await two.fetch(Statement("SELECT pg_backend_pid()", [], SECONDS)))[0][0]
    with pytest.raises(DatabaseUnavailableError):
        await two.fetch(Statement("SELECT pg_sleep(60)", [], 0.05))
    second = (await two.fetch(Statement("SELECT pg_backend_pid()", [], SECONDS)))[0][0]

    assert first != second
    assert await opened(read_side) <= 2


async def test_a_connection_that_the_server_ended_is_replaced(two: Connections, read_side: ReadSide) -> None:
    [[pid]] = await two.fetch(Statement("SELECT pg_backend_pid()", [], SECONDS))
    await read_side.connection.execute("SELECT pg_terminate_backend($1)", pid)

    async def gone() -> bool:
        return await opened(read_side) == 0

    await until(gone, within=5, what="the server ended it")
    assert await two.fetch(Statement("SELECT 1", [], SECONDS))


async def test_a_server_that_is_not_there_is_a_refusal_each_time() -> None:
    async with Connections.open(replace(nowhere(), pool_size=1, max_overflow=0), application="lending") as connections:
        for _ in range(3):
            with pytest.raises(DatabaseUnavailableError, match="no connection to"):
                await connections.lend()


async def test_filling_opens_what_is_meant_to_last(query_database: PostgresAddress, read_side: ReadSide) -> None:
    address = replace(query_database, pool_size=3, max_overflow=5)
    async with Connections.open(address, application="lending") as connections:
        await connections.fill()
        assert await opened(read_side) == 3
        await connections.fill()
        assert await opened(read_side) == 3
