"""Who may run a statement: a few at once, in the order of asking, and nothing lost whatever is cancelled."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest

from chassis.postgres.database import disconnect, make_pool
from chassis.postgres.pool import ACQUIRE_SECONDS, Connection, NoConnectionError, Pool
from chassis.settings import PostgresAddress
from query_api.reading.lending import Lending
from query_api.reading.server_time import STALL_SECONDS, sign_of_life
from tests.waiting import until

SECONDS = 5.0


@asynccontextmanager
async def lending_from(address: PostgresAddress, *, most: int, crowd: int) -> AsyncIterator[tuple[Lending, Pool]]:
    pool = make_pool(replace(address, pool_size=most, max_overflow=0), application="lending")
    lending = Lending(pool, partial(sign_of_life, address), crowd=crowd)
    try:
        yield lending, pool
    finally:
        lending.close()
        await pool.close()


@pytest.fixture
async def one(query_database: PostgresAddress) -> AsyncIterator[Lending]:
    """A pool of one connection."""
    async with lending_from(query_database, most=1, crowd=1) as (lending, _):
        yield lending


async def test_a_crowd_waits_but_not_behind_slow_statements_and_comes_back_after_them(
    query_database: PostgresAddress,
) -> None:
    """Twelve clients: two run at once, six while the statements are slow, and two again afterwards."""
    async with lending_from(query_database, most=6, crowd=2) as (lending, pool):
        seconds, over = 0.3, asyncio.Event()

        async def client() -> None:
            while not over.is_set():
                connection = await lending.lend()
                await connection.fetchval("SELECT pg_sleep($1)", seconds)
                lending.give_back(connection)

        async def lent(number: int) -> bool:
            return pool.lent == number

        async with asyncio.TaskGroup() as group:
            for _ in range(12):
                group.create_task(client())
            assert pool.lent <= 2
            await until(lambda: lent(6), within=SECONDS, what="slow statements hold nobody up")
            seconds = 0.001
            await until(lambda: lent(2), within=SECONDS, what="the crowd is as small as before")
            assert lending.is_crowded
            over.set()
    assert pool.lent == 0


async def test_who_waits_is_admitted_in_the_order_of_asking(one: Lending) -> None:
    held = await one.lend()
    served: list[int] = []

    async def ask(number: int) -> None:
        connection = await one.lend()
        served.append(number)
        one.give_back(connection)

    asking = [asyncio.ensure_future(ask(number)) for number in range(10)]
    await asyncio.sleep(0)
    one.give_back(held)
    await asyncio.gather(*asking)

    assert served == list(range(10))


async def test_who_waits_in_vain_is_refused_after_a_second_where_the_server_lives(one: Lending) -> None:
    held = await one.lend()
    began = time.monotonic()

    with pytest.raises(NoConnectionError, match="busy for 1 s"):
        await one.lend()

    assert ACQUIRE_SECONDS - 0.1 < time.monotonic() - began < ACQUIRE_SECONDS + STALL_SECONDS
    one.give_back(held)
    assert await one.lend() is held
    one.give_back(held)


@pytest.mark.parametrize("sound", [True, False])
async def test_a_turn_that_comes_to_a_cancelled_waiter_goes_to_the_next(one: Lending, sound: bool) -> None:
    held = await one.lend()
    first, second = asyncio.ensure_future(one.lend()), asyncio.ensure_future(one.lend())
    await asyncio.sleep(0)

    (one.give_back if sound else one.discard)(held)
    first.cancel()

    lent = await asyncio.wait_for(second, SECONDS)
    assert first.cancelled()
    assert (lent is held) is sound
    one.give_back(lent)
    assert not one.is_crowded


async def test_an_opening_that_fails_leaves_its_place_to_the_next(query_database: PostgresAddress) -> None:
    opened = 0

    async def refuse() -> Connection:
        nonlocal opened
        opened += 1
        raise ConnectionRefusedError

    lending = Lending(Pool(refuse, disconnect, most=1, keep=1), partial(sign_of_life, query_database))
    asking = [asyncio.ensure_future(lending.lend()) for _ in range(3)]

    errors = await asyncio.wait_for(asyncio.gather(*asking, return_exceptions=True), SECONDS)

    assert [type(error) for error in errors] == [ConnectionRefusedError] * 3
    assert (opened, lending.is_crowded) == (3, False)
    lending.close()


async def test_after_the_close_who_waits_is_refused(query_database: PostgresAddress) -> None:
    async with lending_from(query_database, most=1, crowd=1) as (lending, _):
        await lending.lend()
        waiting = asyncio.ensure_future(lending.lend())
        await asyncio.sleep(0)

        lending.close()

        with pytest.raises(NoConnectionError, match="closed"):
            await asyncio.wait_for(waiting, ACQUIRE_SECONDS / 2)
