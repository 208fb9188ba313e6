"""A statement by asyncpg in a loop: what the driver and the database can do without an API around them."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import asyncpg

from benchmarks.running.rounds import Sample
from chassis.settings import PostgresAddress

STATEMENT_SECONDS: Final = 10.0


async def direct(
    address: PostgresAddress, sql: str, arguments: Callable[[], Sequence[Any]], *, clients: int, seconds: float
) -> Sample:
    """Return executions per second, each on one of `clients` connections with arguments of its own."""
    pool = await asyncpg.create_pool(
        **address.connect_arguments, min_size=clients, max_size=clients, command_timeout=STATEMENT_SECONDS
    )
    try:
        end = time.perf_counter() + seconds
        done = await asyncio.gather(*(_execute_until(pool, sql, arguments, end) for _ in range(clients)))
    finally:
        await pool.close()
    return Sample(sum(done) / seconds)


async def _execute_until(pool: asyncpg.Pool, sql: str, arguments: Callable[[], Sequence[Any]], end: float) -> int:
    done = 0
    async with pool.acquire() as connection:
        while time.perf_counter() < end:
            await connection.execute(sql, *arguments())
            done += 1
    return done
