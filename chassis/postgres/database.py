"""One PostgreSQL database as a process sees it: how to connect, and a pool.

Connections are opened when they are needed, so a process starts (not ready) while its database is down, and recovers
by itself when the database comes back. A caller waits a bounded time for a connection; every failure that is not about
the caller's data is a `DatabaseUnavailableError` (chassis/postgres/errors.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final

import asyncpg

from chassis.outages import describe
from chassis.postgres.errors import (
    NO_CONNECTION,
    DatabaseUnavailableError,
    RolledBackError,
    leaves_in_doubt,
    means_later,
    was_rolled_back,
)
from chassis.postgres.pool import Connection, Pool
from chassis.postgres.servers import open_on_any
from chassis.postgres_address.hosts import Host
from chassis.settings import PostgresAddress

__all__ = [
    "COMMAND_SECONDS",
    "CONNECT_SECONDS",
    "NO_CONNECTION",
    "ONE_PLAN",
    "PLAN_BY_VALUES",
    "SESSION_SETTINGS",
    "Connection",
    "Database",
    "DatabaseUnavailableError",
    "RolledBackError",
    "connect",
    "describe",
    "disconnect",
    "make_pool",
    "session",
]

#: Opening a connection on one machine takes milliseconds; a host that drops packets must not hold a request.
CONNECT_SECONDS: Final = 5.0
#: No statement of the APIs needs a fraction of this; a stuck one must give its connection back.
COMMAND_SECONDS: Final = 15.0

#: A process that freezes in mid-transaction keeps its locks until PostgreSQL ends its session; a healthy one idles
#: there for milliseconds.
FROZEN_TIMEOUT: Final = "5s"
#: Every session of ours sets these, whatever its role and database say. synchronous_commit: turned off it would lose
#: events that were already published (docs/decisions/0002). Isolation: guards by version see what others committed
#: meanwhile, and need no retry. idle_session_timeout: listeners and pools idle for hours. jit: our statements are
#: short, compiling them costs more than it gains.
SESSION_SETTINGS: Final = {
    "synchronous_commit": "on",
    "default_transaction_isolation": "read committed",
    "search_path": "public",
    "timezone": "UTC",
    "idle_in_transaction_session_timeout": FROZEN_TIMEOUT,
    "idle_session_timeout": "0",
    "jit": "off",
}
#: Settings of sessions whose statements have one plan whatever their values: PostgreSQL took as long to plan the short
#: ones for these very values as to run them. It did so each time, since its estimate for a limit, or an array, that it
#: does not know is dearer. One plan has to be right for a table of any size, so it goes by indexes, also where it was
#: made while the table was tiny.
ONE_PLAN: Final = {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off"}
#: The same undone, for the rest of a transaction whose statement has its best plan by its values.
PLAN_BY_VALUES: Final = "SET LOCAL plan_cache_mode = force_custom_plan; SET LOCAL enable_seqscan = on"

#: Work that is to be done once with each new connection.
Init = Callable[[Any], Coroutine[Any, Any, None]]


class Database:
    """The connections to one database; open it with `async with Database.open(...)`."""

    def __init__(self, address: PostgresAddress, pool: Pool, seconds: float | None = None) -> None:
        """Use `open`, which also closes."""
        self.address = address
        self._pool = pool
        self._seconds = seconds

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        address: PostgresAddress,
        *,
        application: str,
        init: Init | None = None,
        seconds: float | None = None,
        **server_settings: str,
    ) -> AsyncIterator[Database]:
        """Get ready to lend; no connection is opened yet, so this succeeds while the server is down.

        `init` runs once on each new connection, for what `server_settings` cannot say. `seconds` is how long one is
        lent at most, unless `connection` is told otherwise.
        """
        pool = make_pool(address, application=application, init=init, server_settings=server_settings)
        try:
            yield cls(address, pool, seconds)
        finally:
            await pool.close()

    def connection(self, seconds: float | None = None) -> _Lent:
        """Lend one connection for an `async with` block, which is cut off after `seconds` (None: those of `open`).

        The block lets its statements' errors out, at least as causes. A connection is not lent again if its statement
        was cancelled, or met what means "later".

        Raises:
            RolledBackError: the server gave the transaction up for others; it may be begun again.
            DatabaseUnavailableError: none could be had within ACQUIRE_SECONDS, or the block met what means "later".
        """
        return _Lent(self.address, self._pool, seconds or self._seconds)

    async def check(self) -> None:
        """Ask the server for one row, for readiness.

        Raises:
            DatabaseUnavailableError: it did not answer.
        """
        async with self.connection() as connection:
            await connection.fetchval("SELECT 1")


def make_pool(
    address: PostgresAddress,
    *,
    application: str,
    server_settings: Mapping[str, str] | None = None,
    init: Init | None = None,
) -> Pool:
    """A pool that keeps the address's pool size open, and opens its overflow under load; the caller closes it."""

    async def open_one() -> Connection:
        connection = await connect(address, application=application, **(server_settings or {}))
        if init:
            await _initialise(connection, init)
        return connection

    most = address.pool_size + address.max_overflow
    return Pool(open_one, disconnect, most=most, keep=address.pool_size)


async def connect(address: PostgresAddress, *, application: str, **server_settings: str) -> Connection:
    """Open one connection outside any pool, for listeners, locks and long-lived loops; the caller closes it.

    Of several servers it is one that has the address's session attributes (chassis/postgres/servers.py).
    """

    async def open_one(host: Host, attributes: str) -> Connection:
        connection: Connection = await asyncpg.connect(
            **address.arguments_for(host, attributes),
            timeout=CONNECT_SECONDS,
            command_timeout=COMMAND_SECONDS,
            server_settings={**SESSION_SETTINGS, "application_name": application, **server_settings},
        )
        return connection

    return await open_on_any(address, open_one)


@asynccontextmanager
async def session(address: PostgresAddress, *, application: str, **server_settings: str) -> AsyncIterator[Connection]:
    """One connection of a block's own; it is cut off if the block fails, for its statement may still run."""
    connection = await connect(address, application=application, **server_settings)
    try:
        yield connection
    except BaseException:
        connection.terminate()
        raise
    await disconnect(connection)


async def disconnect(connection: asyncpg.Connection[Any]) -> None:
    """Close a connection of ours; one that does not close in time is cut off."""
    try:
        await connection.close(timeout=CONNECT_SECONDS)
    except NO_CONNECTION:
        # It is broken already; a close could have achieved no more.
        connection.terminate()


async def _initialise(connection: Connection, init: Init) -> None:
    try:
        await init(connection)
    except BaseException:
        connection.terminate()
        raise


class _Lent:
    """One connection for one block; a class, because a generator's context manager costs as much as the lending."""

    __slots__ = ("_address", "_connection", "_limit", "_pool", "_seconds")

    def __init__(self, address: PostgresAddress, pool: Pool, seconds: float | None) -> None:
        self._address = address
        self._pool = pool
        self._seconds = seconds
        self._limit: asyncio.Timeout | None = None
        self._connection: Connection | None = None

    async def __aenter__(self) -> Connection:
        try:
            self._connection = connection = await self._pool.lend()
        except NO_CONNECTION as error:
            raise DatabaseUnavailableError(f"no connection to {self._address}: {describe(error)}") from error
        if self._seconds:
            self._limit = asyncio.timeout(self._seconds)
            await self._limit.__aenter__()
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._connection is not None
        if self._limit:
            try:
                await self._limit.__aexit__(kind, error, trace)
            except TimeoutError as late:
                error = late
        if error is None or not leaves_in_doubt(error):
            self._pool.give_back(self._connection)
        else:
            self._pool.discard(self._connection)
        if error is not None and means_later(error):
            kind_of_later = RolledBackError if was_rolled_back(error) else DatabaseUnavailableError
            raise kind_of_later(f"{self._address} failed: {describe(error)}") from error
