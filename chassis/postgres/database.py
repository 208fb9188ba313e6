"""One PostgreSQL database as a process sees it: how to connect, which errors mean "not now", and a pool.

Connections are opened when they are needed, so a process starts (not ready) while its database is down, and recovers
by itself when the database comes back. A caller waits a bounded time for a connection; every failure that is not about
the caller's data is a `DatabaseUnavailableError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final

import asyncpg

from chassis.outages import describe
from chassis.postgres.pool import Connection, NoConnectionError, Pool
from chassis.settings import PostgresAddress

__all__ = [
    "COMMAND_SECONDS",
    "CONNECT_SECONDS",
    "INFRASTRUCTURE_ERRORS",
    "NO_CONNECTION",
    "SESSION_SETTINGS",
    "Connection",
    "Database",
    "DatabaseUnavailableError",
    "connect",
    "describe",
    "disconnect",
    "make_pool",
]

#: Opening a connection on one machine takes milliseconds; a host that drops packets must not hold a request.
CONNECT_SECONDS: Final = 5.0
#: No statement of the APIs needs a fraction of this; a stuck one must give its connection back.
COMMAND_SECONDS: Final = 15.0

#: What a session of ours always sets. synchronous_commit: a role or database that turned it off would lose events that
#: were already published (docs/decisions/0002). jit: our statements are short, compiling them costs more than it gains.
SESSION_SETTINGS: Final = {"synchronous_commit": "on", "timezone": "UTC", "jit": "off"}

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
#: Why a pool has no connection to lend; PostgreSQL can refuse a session with any error.
NO_CONNECTION: tuple[type[Exception], ...] = (NoConnectionError, asyncpg.PostgresError, *INFRASTRUCTURE_ERRORS)

#: What is to be done once with each new connection.
Init = Callable[[Any], Coroutine[Any, Any, None]]


class DatabaseUnavailableError(Exception):
    """The database cannot serve this request now: down, starting, out of connections, or not answering in time."""


class Database:
    """The connections to one database; open it with `async with Database.open(...)`."""

    def __init__(self, address: PostgresAddress, pool: Pool) -> None:
        """Use `open`, which also closes."""
        self.address = address
        self._pool = pool

    @classmethod
    @asynccontextmanager
    async def open(
        cls, address: PostgresAddress, *, application: str, init: Init | None = None, **server_settings: str
    ) -> AsyncIterator[Database]:
        """Get ready to lend; no connection is opened yet, so this succeeds while the server is down.

        `init` runs once on each new connection, for what `server_settings` cannot say.
        """
        pool = make_pool(address, application=application, init=init, server_settings=server_settings)
        try:
            yield cls(address, pool)
        finally:
            await pool.close()

    def connection(self) -> _Lent:
        """Lend one connection for an `async with` block.

        The block lets its statements' errors out, at least as causes. A connection is not lent again if its statement
        was cancelled, or failed for another reason than the statement itself.

        Raises:
            DatabaseUnavailableError: none could be had within ACQUIRE_SECONDS, or the server failed while it was used.
        """
        return _Lent(self.address, self._pool)

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
    """Open one connection outside any pool, for listeners, locks and long-lived loops; the caller closes it."""
    connection: Connection = await asyncpg.connect(
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

    __slots__ = ("_address", "_connection", "_pool")

    def __init__(self, address: PostgresAddress, pool: Pool) -> None:
        self._address = address
        self._pool = pool
        self._connection: Connection | None = None

    async def __aenter__(self) -> Connection:
        try:
            self._connection = connection = await self._pool.lend()
        except NO_CONNECTION as error:
            raise DatabaseUnavailableError(f"no connection to {self._address}: {describe(error)}") from error
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._connection is not None
        if isinstance(error, INFRASTRUCTURE_ERRORS):
            self._pool.discard(self._connection)
            raise DatabaseUnavailableError(f"{self._address} failed: {describe(error)}") from error
        if error is None or not _leaves_in_doubt(error):
            self._pool.give_back(self._connection)
        else:
            self._pool.discard(self._connection)


def _leaves_in_doubt(error: BaseException) -> bool:
    """Whether a statement may still run: it was cancelled, or the server failed, whatever the block raised for that."""
    cause: BaseException | None = error
    while cause is not None:
        if not isinstance(cause, Exception) or isinstance(cause, (DatabaseUnavailableError, *INFRASTRUCTURE_ERRORS)):
            return True
        cause = cause.__cause__
    return False
