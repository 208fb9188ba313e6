"""The lending of connections: never too many, in the order of asking, and nothing lost whatever is cancelled."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from chassis.postgres.database import connect, disconnect, make_pool
from chassis.postgres.pool import ACQUIRE_SECONDS, OPEN_SECONDS, Connection, NoConnectionError, Pool
from chassis.settings import PostgresAddress
from tests.waiting import until

SECONDS = 5.0
APPLICATION = "lending"


@pytest.fixture
async def two(query_database: PostgresAddress) -> AsyncIterator[Pool]:
    async with lending(query_database, most=2) as pool:
        yield pool


@pytest.fixture
async def server(query_database: PostgresAddress) -> AsyncIterator[Connection]:
    """Somebody who looks at the server from outside."""
    connection = await connect(query_database, application="test")
    yield connection
    await disconnect(connection)


@asynccontextmanager
async def lending(address: PostgresAddress, **limits: Any) -> AsyncIterator[Pool]:
    pool = Pool(partial_open(address), disconnect, **{"keep": 1, **limits})
    try:
        yield pool
    finally:
        await pool.close()


def partial_open(address: PostgresAddress) -> Callable[[], Awaitable[Connection]]:
    return lambda: connect(address, application=APPLICATION)


async def opened(server: Connection) -> int:
    count = await server.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()",
        APPLICATION,
    )
    return int(count)


async def abandoned(server: Connection) -> int:
    """Sessions that ended without the client's saying so."""
    await server.execute("SELECT pg_stat_clear_snapshot()")
    count = await server.fetchval("SELECT sessions_abandoned FROM pg_stat_database WHERE datname = current_database()")
    return int(count)


async def lend_all(pool: Pool, number: int) -> list[Connection]:
    return [await pool.lend() for _ in range(number)]


def give_all_back(pool: Pool, held: list[Connection]) -> None:
    for connection in held:
        pool.give_back(connection)


async def test_the_one_used_last_is_lent_first(two: Pool) -> None:
    held = await lend_all(two, 2)
    give_all_back(two, held)

    for _ in range(3):
        connection = await two.lend()
        assert connection is held[-1]
        two.give_back(connection)


async def test_who_waits_is_served_in_the_order_of_asking(two: Pool) -> None:
    held = await lend_all(two, 2)
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


async def test_who_waits_in_vain_is_refused_and_nothing_is_lost(two: Pool) -> None:
    held = await lend_all(two, 2)

    with pytest.raises(NoConnectionError, match="busy for 1 s"):
        await two.lend()
    give_all_back(two, held)
    again = await lend_all(two, 2)
    assert set(again) == set(held)
    give_all_back(two, again)


async def test_a_turn_that_comes_to_a_cancelled_waiter_goes_to_the_next(two: Pool) -> None:
    held = await lend_all(two, 2)
    first, second = asyncio.ensure_future(two.lend()), asyncio.ensure_future(two.lend())
    await asyncio.sleep(0)

    two.give_back(held[0])
    first.cancel()

    assert await asyncio.wait_for(second, SECONDS) is held[0]
    assert first.cancelled()
    give_all_back(two, held)


async def test_a_place_that_comes_to_a_cancelled_waiter_goes_to_the_next(two: Pool, server: Connection) -> None:
    held = await lend_all(two, 2)
    first, second = asyncio.ensure_future(two.lend()), asyncio.ensure_future(two.lend())
    await asyncio.sleep(0)

    two.discard(held[0])
    first.cancel()

    opened_anew = await asyncio.wait_for(second, SECONDS)
    assert opened_anew not in held
    give_all_back(two, [held[1], opened_anew])
    await until(lambda: so_many(server, 2), within=SECONDS, what="two are open")


async def test_who_waits_and_then_opens_one_is_refused_in_the_same_time(query_database: PostgresAddress) -> None:
    opening = 0

    async def open_one() -> Connection:
        nonlocal opening
        opening += 1
        if opening > 1:
            await asyncio.Event().wait()
        return await connect(query_database, application=APPLICATION)

    pool = Pool(open_one, disconnect, most=1, keep=1)
    held = await pool.lend()
    asyncio.get_running_loop().call_later(0.6, pool.discard, held)
    began = time.monotonic()

    with pytest.raises(NoConnectionError, match="opened in time"):
        await pool.lend()

    assert OPEN_SECONDS - 0.1 < time.monotonic() - began < OPEN_SECONDS + 0.4
    assert pool.lent == 0
    await pool.close()


async def test_what_the_load_does_not_need_is_closed_in_order_down_to_what_is_kept(
    query_database: PostgresAddress, server: Connection
) -> None:
    async with lending(query_database, most=6, keep=2, idle_seconds=0.2) as pool:
        before = await abandoned(server)
        give_all_back(pool, await lend_all(pool, 6))
        assert await opened(server) == 6

        await until(lambda: so_many(server, 2), within=SECONDS, what="the two to be kept are left")
        # Several looks later they are still there, and can be lent.
        rested = asyncio.get_running_loop().time() + 0.6
        await until(lambda: later(rested), within=SECONDS, what="further looks")
        assert await opened(server) == 2
        assert await abandoned(server) == before
        again = await lend_all(pool, 6)
        assert await again[-1].fetchval("SELECT 1") == 1
        give_all_back(pool, again)


async def so_many(server: Connection, number: int) -> bool:
    return await opened(server) == number


async def later(moment: float) -> bool:
    return asyncio.get_running_loop().time() > moment


async def test_what_the_load_needs_is_not_closed(query_database: PostgresAddress, server: Connection) -> None:
    async with lending(query_database, most=3, keep=1, idle_seconds=0.3) as pool:
        give_all_back(pool, await lend_all(pool, 3))
        over = asyncio.get_running_loop().time() + 0.9
        while not await later(over):
            held = await lend_all(pool, 2)
            give_all_back(pool, held)
            await asyncio.gather(*(connection.fetchval("SELECT pg_sleep(0.01)") for connection in held))

        await until(lambda: so_many(server, 2), within=SECONDS, what="only the third is closed")


async def test_those_who_left_do_not_stand_in_the_way(two: Pool) -> None:
    held = await lend_all(two, 2)
    left = [asyncio.ensure_future(two.lend()) for _ in range(5)]
    await asyncio.sleep(0)
    for one in left:
        one.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    stays = asyncio.ensure_future(two.lend())
    await asyncio.sleep(0)

    two.give_back(held[0])

    assert await asyncio.wait_for(stays, SECONDS) is held[0]
    give_all_back(two, held)
    assert two.lent == 0


async def test_a_place_whose_opening_failed_goes_to_the_next_at_once(query_database: PostgresAddress) -> None:
    opening = 0

    async def open_one() -> Connection:
        nonlocal opening
        opening += 1
        await asyncio.sleep(0)
        if opening == 1:
            raise ConnectionRefusedError
        return await connect(query_database, application=APPLICATION)

    pool = Pool(open_one, disconnect, most=1, keep=1)
    first, second = asyncio.ensure_future(pool.lend()), asyncio.ensure_future(pool.lend())

    with pytest.raises(ConnectionRefusedError):
        await first
    await asyncio.sleep(0)
    assert opening == 2, "it waits for no timer"
    pool.give_back(await second)
    await pool.close()


async def test_filling_opens_what_is_meant_to_last(query_database: PostgresAddress, server: Connection) -> None:
    pool = make_pool(replace(query_database, pool_size=3, max_overflow=5), application=APPLICATION)
    for _ in range(2):
        await pool.fill()
        assert await opened(server) == 3
    await pool.close()
    await until(lambda: so_many(server, 0), within=SECONDS, what="all are closed")


async def test_after_the_close_who_waits_or_asks_is_refused_and_nothing_is_opened(
    query_database: PostgresAddress, server: Connection
) -> None:
    async with lending(query_database, most=1) as pool:
        held = await pool.lend()
        waiting = asyncio.ensure_future(pool.lend())
        await asyncio.sleep(0)

        await pool.close()
        with pytest.raises(NoConnectionError, match="closed"):
            await asyncio.wait_for(waiting, ACQUIRE_SECONDS / 2)
        late = asyncio.ensure_future(pool.lend())
        await asyncio.sleep(0)
        pool.discard(held)
        with pytest.raises(NoConnectionError, match="closed"):
            await late
        with pytest.raises(NoConnectionError, match="closed"):
            await pool.lend()

        assert pool.lent == 0
        await until(lambda: so_many(server, 0), within=SECONDS, what="none is open")


async def test_one_that_is_opened_during_the_close_does_not_stay(
    query_database: PostgresAddress, server: Connection
) -> None:
    async with lending(query_database, most=1) as pool:
        opening = asyncio.ensure_future(pool.lend())
        await asyncio.sleep(0)

        await pool.close()

        with pytest.raises(NoConnectionError, match="closed"):
            await opening
        assert pool.lent == 0
        await until(lambda: so_many(server, 0), within=SECONDS, what="none is open")
