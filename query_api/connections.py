"""The connections of one query API process: opened ahead, lent for one statement at a time, never more than allowed.

asyncpg's own pool makes two tasks and a proxy each time it lends a connection, 35 microseconds of the 150 that a page
may cost here. Taking one from this stack is a list's pop. What it gives up is resetting: nothing is set on a session
outside a transaction, and a connection on which anything went wrong but an SQL error is not used again.

Guarantees: at most `most` connections are open; who waits for one is served in the order of asking, and is refused
after ACQUIRE_SECONDS; connections that the server closed are replaced.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg

from chassis.database import (
    ACQUIRE_SECONDS,
    INFRASTRUCTURE_ERRORS,
    DatabaseUnavailableError,
    connect,
    describe,
    disconnect,
)
from chassis.settings import PostgresAddress

#: A server that enforces its own limit answers by then; one that does not is down.
_GRACE_SECONDS: Final = 1.0

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
#: While so many statements run, a new one waits for one of them rather than run beside them: more at once only get into
#: each other's way. A process can ask for 6,500 pages a second, eight connections can give 40,000; and with thirty, a
#: page cost PostgreSQL 200 microseconds and this process 260, with eight 150 and 190 (p99 78 and 15 ms).
CROWD: Final = 8
#: Then slow statements hold them, and the new one runs all the same.
CROWD_SECONDS: Final = 0.05

#: Why a connection was not to be had.
_REFUSALS: tuple[type[Exception], ...] = (asyncpg.PostgresError, *INFRASTRUCTURE_ERRORS)

#: What the server says when it ends a connection.
_FAREWELLS = (asyncpg.PostgresConnectionError, asyncpg.AdminShutdownError, asyncpg.CrashShutdownError)

#: What a waiter gets: a connection, or None for "there is room: open one".
_Turn: TypeAlias = "asyncio.Future[Connection | None]"


class _StaleConnectionError(DatabaseUnavailableError):
    """The connection was no longer one; the statement was not answered."""


class Statement(NamedTuple):
    """SQL and its values, and how it is to be run."""

    sql: str
    arguments: Sequence[Any]
    #: The whole of it, the server's own time limit included.
    seconds: float
    #: Which plan is best depends on the values.
    plan_each_time: bool = False
    #: Called when it has its connection and is about to be sent.
    started: Callable[[], object] | None = None

    async def run(self, connection: Connection) -> Sequence[asyncpg.Record]:
        """Send it and wait for its rows."""
        if not self.plan_each_time:
            return await connection.fetch(self.sql, *self.arguments, timeout=self.seconds)
        # A nameless statement is parsed and planned for these very values. It costs a round trip more than a kept one,
        # whose general plan was up to 100 times slower where indexes compete.
        prepared = await connection.prepare(self.sql, name="", timeout=self.seconds)
        return await prepared.fetch(*self.arguments, timeout=self.seconds)


class Connections:
    """A stack of idle connections: the one used last is lent first, so what the load does not need stays untouched."""

    def __init__(self, address: PostgresAddress, *, application: str, **server_settings: str) -> None:
        """Nothing is opened before it is needed, or `fill` is called."""
        self._address = address
        self._most = address.pool_size + address.max_overflow
        self._options = {"application": application, **server_settings}
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiting: deque[_Turn] = deque()
        #: Open, being opened, or promised to a waiter that will open one.
        self._taken = 0
        self._closed = False

    @classmethod
    @asynccontextmanager
    async def open(
        cls, address: PostgresAddress, *, application: str, **server_settings: str
    ) -> AsyncIterator[Connections]:
        """Lend until the block ends, then close what is open."""
        connections = cls(address, application=application, **server_settings)
        try:
            yield connections
        finally:
            await connections.close()

    @property
    def is_crowded(self) -> bool:
        """Whether a statement would now have to wait for another one's end."""
        lent = self._taken - len(self._idle)
        return lent >= CROWD or lent >= self._most

    async def fetch(self, statement: Statement) -> Sequence[asyncpg.Record]:
        """Run one statement.

        Raises:
            DatabaseUnavailableError: there was no connection for it, or it broke.
            asyncpg.PostgresError: what the server said of the statement.
        """
        try:
            return await self._fetch(statement)
        except _StaleConnectionError:
            # The server ended that one while it was idle: a read may simply be sent again, once.
            return await self._fetch(statement)

    async def _fetch(self, statement: Statement) -> Sequence[asyncpg.Record]:
        # As in _lent, but without a context manager, which costs as much as the lending.
        connection = await self.lend()
        if statement.started:
            statement.started()
        try:
            rows = await statement.run(connection)
        except BaseException as error:
            self._take_back_after(error, connection)
            raise
        self.give_back(connection)
        return rows

    async def fetch_limited(self, sql: str, arguments: Sequence[Any], *, limit_ms: int) -> Sequence[asyncpg.Record]:
        """Run one statement under a time limit of its own, which the server keeps.

        Raises:
            DatabaseUnavailableError: there was no connection for it, or it broke.
            asyncpg.PostgresError: what the server said of the statement.
        """
        seconds = limit_ms / 1000 + _GRACE_SECONDS
        async with self._lent() as connection, connection.transaction(readonly=True):
            await connection.execute(f"SET LOCAL statement_timeout = {limit_ms:d}", timeout=seconds)
            return await connection.fetch(sql, *arguments, timeout=seconds)

    async def lend(self) -> Connection:
        """A connection; hand it to `give_back` or `discard` afterwards.

        Raises:
            DatabaseUnavailableError: none was to be had within ACQUIRE_SECONDS.
        """
        if self._taken - len(self._idle) < CROWD:
            connection = self._pop()
            if connection is not None:
                return connection
            if self._taken < self._most:
                self._taken += 1
                return await self._connect()
        return await self._wait() or await self._connect()

    @asynccontextmanager
    async def _lent(self) -> AsyncIterator[Connection]:
        connection = await self.lend()
        try:
            yield connection
        except BaseException as error:
            self._take_back_after(error, connection)
            raise
        self.give_back(connection)

    def _take_back_after(self, error: BaseException, connection: Connection) -> None:
        """A statement that the server refused leaves the connection sound; anything else leaves it in doubt."""
        if isinstance(error, asyncpg.PostgresError) and not isinstance(error, _FAREWELLS):
            self.give_back(connection)
            return
        self.discard(connection)
        if isinstance(error, INFRASTRUCTURE_ERRORS):
            kind = DatabaseUnavailableError if isinstance(error, TimeoutError) else _StaleConnectionError
            raise kind(f"{self._address} failed: {describe(error)}") from error

    def give_back(self, connection: Connection) -> None:
        """Return a connection on which all went well, or the server refused a statement."""
        if self._closed or connection.is_closed() or connection.is_in_transaction():
            self.discard(connection)
            return
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        self._idle.append(connection)

    def discard(self, connection: Connection) -> None:
        """Return one whose state is unknown: it is cut off, and its place is free for a new one."""
        connection.terminate()
        self._open.discard(connection)
        self._free_place()

    async def fill(self) -> None:
        """Open connections until there are as many as are meant to last.

        One that must be opened while the server stalls is a request that is refused.

        Raises:
            DatabaseUnavailableError: one could not be opened.
        """
        while self._taken < self._address.pool_size:
            self._taken += 1
            self.give_back(await self._connect())

    async def close(self) -> None:
        """Close what is idle in order, and cut off what is still lent: its statement has outlived its request."""
        self._closed = True
        for connection in self._open.difference(self._idle):
            connection.terminate()
        await asyncio.gather(*map(disconnect, self._idle))

    async def _connect(self) -> Connection:
        """Open one in a place that is already taken for it."""
        try:
            async with asyncio.timeout(ACQUIRE_SECONDS):
                connection = await connect(self._address, **self._options)
        except _REFUSALS as error:
            self._free_place()
            raise DatabaseUnavailableError(f"no connection to {self._address}: {describe(error)}") from error
        except BaseException:
            self._free_place()
            raise
        self._open.add(connection)
        return connection

    def _pop(self) -> Connection | None:
        """The idle connection used last, if there is one that still stands."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
            self._open.discard(connection)
            self._taken -= 1
        return None

    async def _wait(self) -> Connection | None:
        waiter = _Waiter(self)
        self._waiting.append(waiter.turn)
        try:
            return await waiter.turn
        except asyncio.CancelledError:
            if waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
                self._pass_on(waiter.turn.result())
            raise
        finally:
            waiter.timer.cancel()

    def _serve_beyond_crowd(self, turn: _Turn) -> bool:
        """Give a waiter a connection although many are lent; says whether there was one, or room for one."""
        connection = self._pop()
        if connection is None:
            if self._taken >= self._most:
                return False
            self._taken += 1
        turn.set_result(connection)
        return True

    def _refuse(self, turn: _Turn) -> None:
        detail = f"all {self._most} connections to {self._address} were busy for {ACQUIRE_SECONDS:g} s"
        turn.set_exception(DatabaseUnavailableError(detail))

    def _pass_on(self, turn: Connection | None) -> None:
        """What came to a waiter that had just left goes to the next."""
        if turn is None:
            self._free_place()
        else:
            self.give_back(turn)

    def _free_place(self) -> None:
        """Let the first who waits open a connection; else the place is free."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken -= 1


class _Waiter:
    """One request's turn, and the clock that runs while it waits."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self.turn: _Turn = self._loop.create_future()
        self.timer = self._loop.call_later(CROWD_SECONDS, self._lose_patience)

    def _lose_patience(self) -> None:
        if not self.turn.done() and not self._connections._serve_beyond_crowd(self.turn):  # noqa: SLF001 - its other half
            self.timer = self._loop.call_later(ACQUIRE_SECONDS - CROWD_SECONDS, self._give_up)

    def _give_up(self) -> None:
        if not self.turn.done():
            self._connections._refuse(self.turn)  # noqa: SLF001 - its other half
