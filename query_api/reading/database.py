"""The query database as one query API process uses it: single statements, each on a connection lent for it alone.

Guarantees: a statement that finds no connection is refused after ACQUIRE_SECONDS of the server's time. A statement
whose connection the server has ended is sent again, once, on a new one: to another server where that one is gone. A
statement that is not answered within its time fails, and its connection is cut.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg

from chassis.postgres.database import (
    NO_CONNECTION,
    ONE_PLAN,
    PLAN_BY_VALUES,
    Connection,
    DatabaseUnavailableError,
    describe,
    make_pool,
)
from chassis.postgres.errors import means_later
from chassis.postgres.pool import Pool
from chassis.settings import PostgresAddress
from query_api.reading.lending import Lending
from query_api.reading.server_time import sign_of_life

#: A server that enforces its own limit answers within this time after it; one that does not is down.
GRACE_SECONDS: Final = 1.0
#: A statement that waits for a lock is told from one that is too expensive by giving up sooner, after this part of its
#: limit, and never later than LOCK_MS: what holds read tables longer is DDL, and nobody should wait behind that.
LOCK_PART: Final = 2
LOCK_MS: Final = 1000

#: The errors of a statement that one of our own limits ended; nothing is wrong with its session.
_PAST_LIMIT = (asyncpg.QueryCanceledError, asyncpg.LockNotAvailableError)

FetchedRows: TypeAlias = Sequence[asyncpg.Record]


def limits(statement_ms: int) -> dict[str, str]:
    """The settings that bound a statement to so many milliseconds, and its waits for locks to less."""
    lock_ms = max(1, min(statement_ms // LOCK_PART, LOCK_MS))
    return {"statement_timeout": str(statement_ms), "lock_timeout": str(lock_ms)}


class _StaleConnectionError(DatabaseUnavailableError):
    """The connection had been ended before the statement was answered."""


class ReadStatement(NamedTuple):
    """SQL and its values, and how to run it."""

    sql: str
    arguments: Sequence[Any]
    #: The most it may take altogether, the server's own time limit included.
    seconds: float
    #: What is set for it alone, in a transaction of its own.
    settings: str = ""
    #: Called when it has its connection and is about to be sent.
    started: Callable[[], object] | None = None

    @property
    def limit_seconds(self) -> float:
        """The server's own time limit, if it is what `seconds` was made of."""
        return self.seconds - GRACE_SECONDS

    async def run(self, connection: Connection) -> FetchedRows:
        """Send it and wait for its rows."""
        return await connection.fetch(self.sql, *self.arguments, timeout=self.seconds)


class ReadDatabase:
    """Runs one statement on one connection at a time."""

    def __init__(self, address: PostgresAddress, pool: Pool, lending: Lending) -> None:
        """Use `open`, which also closes."""
        self._address = address
        self.pool = pool
        self.lending = lending

    @classmethod
    @asynccontextmanager
    async def open(
        cls, address: PostgresAddress, *, application: str, **server_settings: str
    ) -> AsyncIterator[ReadDatabase]:
        """Get ready; no connection is opened yet, so this succeeds while the server is down."""
        pool = make_pool(address, application=application, server_settings={**ONE_PLAN, **server_settings})
        lending = Lending(pool, partial(sign_of_life, address))
        try:
            yield cls(address, pool, lending)
        finally:
            lending.close()
            await pool.close()

    async def fetch(self, statement: ReadStatement) -> FetchedRows:
        """Run one statement.

        Raises:
            DatabaseUnavailableError: there was no connection for it, or it broke.
            asyncpg.PostgresError: the server refused the statement.
        """
        began = asyncio.get_running_loop().time()
        try:
            return await self._fetch(statement)
        except _StaleConnectionError:
            # The server had ended that connection, or has ended itself: a read may simply be sent again, once. Not on
            # another of those connections, since a server that dies ends them one after the other.
            self.pool.drop_idle(opened_before=began)
            return await self._fetch(statement)

    async def _fetch(self, statement: ReadStatement) -> FetchedRows:
        sent = time.monotonic()
        try:
            async with self._lent() as connection:
                if statement.started:
                    statement.started()
                sent = time.monotonic()
                if not statement.settings:
                    return await statement.run(connection)
                async with self._transaction(connection):
                    await connection.execute(statement.settings, timeout=statement.seconds)
                    return await statement.run(connection)
        except asyncpg.QueryCanceledError as error:
            if time.monotonic() - sent < statement.limit_seconds:
                raise DatabaseUnavailableError(f"{self._address} was told to cancel a query") from error
            raise

    async def fetch_limited(self, sql: str, arguments: Sequence[Any], *, limit_ms: int) -> FetchedRows:
        """Run one statement under a time limit of its own, which the server keeps.

        Raises:
            DatabaseUnavailableError: there was no connection for it, or it broke.
            asyncpg.PostgresError: the server refused the statement.
        """
        set_limits = "; ".join(f"SET LOCAL {name} = {value}" for name, value in limits(limit_ms).items())
        settings = f"{set_limits}; {PLAN_BY_VALUES}"
        return await self.fetch(ReadStatement(sql, arguments, limit_ms / 1000 + GRACE_SECONDS, settings))

    async def fill(self) -> None:
        """Open connections until there are as many as are meant to last.

        A connection that must be opened while the server stalls costs a request its answer.

        Raises:
            DatabaseUnavailableError: one could not be opened.
        """
        try:
            await self.pool.fill()
        except NO_CONNECTION as error:
            raise self._none(error) from error

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[Connection]:
        try:
            connection = await self.lending.lend()
        except NO_CONNECTION as error:
            raise self._none(error) from error
        try:
            yield connection
        except BaseException as error:
            self._take_back_after(error, connection)
            raise
        self.lending.give_back(connection)

    @asynccontextmanager
    async def _transaction(self, connection: Connection) -> AsyncIterator[None]:
        transaction = connection.transaction(readonly=True)
        try:
            await transaction.start()
        except asyncpg.PostgresError as error:
            # asyncpg would take the connection's next transaction for one within this: it must not be lent again.
            raise _StaleConnectionError(f"{self._address} began no transaction: {describe(error)}") from error
        try:
            yield
        except asyncpg.PostgresError as error:
            if _is_usable_after(error):
                await transaction.rollback()
            raise
        await transaction.commit()

    def _none(self, error: Exception) -> DatabaseUnavailableError:
        return DatabaseUnavailableError(f"no connection to {self._address}: {describe(error)}")

    def _take_back_after(self, error: BaseException, connection: Connection) -> None:
        """Keep the connection if the server refused the statement; discard it after any other failure."""
        if _is_usable_after(error):
            self.lending.give_back(connection)
            return
        self.lending.discard(connection)
        if means_later(error):
            kind = DatabaseUnavailableError if isinstance(error, TimeoutError) else _StaleConnectionError
            raise kind(f"{self._address} failed: {describe(error)}") from error


def _is_usable_after(error: BaseException) -> bool:
    """Whether the server refused a statement, and nothing else is wrong with its session."""
    return isinstance(error, asyncpg.PostgresError) and (isinstance(error, _PAST_LIMIT) or not means_later(error))
