"""One PostgreSQL database as a process sees it: a bounded pool of asyncpg connections.

The pool opens connections when they are needed, so a process starts (not ready) while its database is down and recovers
by itself when the database comes back. A caller waits a bounded time for a connection; every failure that is not about
the caller's data is a `DatabaseUnavailableError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from chassis.settings import PostgresAddress

if TYPE_CHECKING:
    _Connection = asyncpg.Connection[asyncpg.Record]
else:  # only the stubs know the class as generic
    _Connection = asyncpg.Connection

#: A request that cannot get a connection within a second is better told to come back than kept waiting.
ACQUIRE_SECONDS = 1.0
#: Opening a connection on one machine takes milliseconds; a host that drops packets must not hold a request.
CONNECT_SECONDS = 5.0
#: No statement of the APIs needs a fraction of this; a stuck one must give its connection back.
COMMAND_SECONDS = 15.0
#: Connections above what the load needs are closed after this long.
IDLE_SECONDS = 300.0

#: What a session of ours always sets. synchronous_commit: a role or database that turned it off would lose events that
#: were already published (docs/decisions/0002). jit: our statements are short, compiling them costs more than it gains.
SESSION_SETTINGS = {"synchronous_commit": "on", "timezone": "UTC", "jit": "off"}

#: Errors that say the server, the network or the pool failed, not the statement.
INFRASTRUCTURE_ERRORS: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.QueryCanceledError,
)


Init = Callable[[Any], Coroutine[Any, Any, None]]


class DatabaseUnavailableError(Exception):
    """The database cannot serve this request now: down, starting, out of connections, or not answering in time."""


class PlainConnection(_Connection):
    """A connection whose sessions keep no state, so that giving it back costs no round trip."""

    def get_reset_query(self) -> str:
        """Nothing to reset: we set no session variables, temporary tables or listeners on pooled connections."""
        return ""


class Database:
    """A pool of connections to one database; open it with `async with Database.open(...)`."""

    def __init__(self, address: PostgresAddress, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        """Use `open`, which also closes."""
        self.address = address
        self._pool = pool

    @classmethod
    @asynccontextmanager
    async def open(
        cls, address: PostgresAddress, *, application: str, init: Init | None = None, **server_settings: str
    ) -> AsyncIterator[Database]:
        """Make the pool; no connection is opened yet, so this succeeds while the server is down.

        `init` runs once on each new connection, for what `server_settings` cannot say.
        """
        pool = await asyncpg.create_pool(
            **address.connect_arguments,
            min_size=0,
            max_size=address.pool_size + address.max_overflow,
            max_inactive_connection_lifetime=IDLE_SECONDS,
            timeout=CONNECT_SECONDS,
            command_timeout=COMMAND_SECONDS,
            connection_class=PlainConnection,
            init=init,
            server_settings={**SESSION_SETTINGS, "application_name": application, **server_settings},
        )
        try:
            yield cls(address, pool)
        finally:
            await _close(pool)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[PoolConnectionProxy[asyncpg.Record]]:
        """Lend one connection.

        Raises:
            DatabaseUnavailableError: none could be had within ACQUIRE_SECONDS, or the server failed while it was used.
        """
        try:
            connection = await self._pool.acquire(timeout=ACQUIRE_SECONDS)
        except INFRASTRUCTURE_ERRORS as error:
            raise DatabaseUnavailableError(f"no connection to {self.address}: {describe(error)}") from error
        try:
            yield connection
        except INFRASTRUCTURE_ERRORS as error:
            raise DatabaseUnavailableError(f"{self.address} failed: {describe(error)}") from error
        finally:
            await self._pool.release(connection)

    async def check(self) -> None:
        """Ask the server for one row, for readiness.

        Raises:
            DatabaseUnavailableError: it did not answer.
        """
        async with self.connection() as connection:
            await connection.fetchval("SELECT 1")


async def connect(
    address: PostgresAddress, *, application: str, **server_settings: str
) -> asyncpg.Connection[asyncpg.Record]:
    """Open one connection outside any pool, for listeners, locks and long-lived loops; the caller closes it."""
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
        **address.connect_arguments,
        timeout=CONNECT_SECONDS,
        command_timeout=COMMAND_SECONDS,
        server_settings={**SESSION_SETTINGS, "application_name": application, **server_settings},
    )
    return connection


async def disconnect(connection: asyncpg.Connection[Any]) -> None:
    """Close a connection of ours; one that does not close in time is cut off."""
    try:
        await connection.close(timeout=CONNECT_SECONDS)
    except INFRASTRUCTURE_ERRORS:
        # It is already broken: that is all a close could have achieved.
        connection.terminate()


def describe(error: BaseException) -> str:
    """An error in one line: its class where it has no text (a TimeoutError says nothing)."""
    return " ".join(str(error).split()) or type(error).__name__


async def _close(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    try:
        await asyncio.wait_for(pool.close(), CONNECT_SECONDS)
    except TimeoutError:
        pool.terminate()
