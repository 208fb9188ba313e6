"""A stack of open connections to one database: lent to one task at a time, never more than allowed.

asyncpg's own pool makes two tasks and a proxy each time it lends a connection, a tenth of what a command costs here.
Taking one from this stack is a list's pop. What it gives up is resetting: nothing may be set on a session outside a
transaction, and a connection whose state is in doubt is not used again.

Guarantees: at most `most` connections are open; who waits for one is served in the order of asking, and is refused
after ACQUIRE_SECONDS; connections that the server closed are replaced; those above what the load needs are closed after
IDLE_SECONDS.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

#: A request that cannot get a connection within a second is better told to come back than kept waiting.
ACQUIRE_SECONDS: Final = 1.0
#: Connections above what the load needs are closed after this long.
IDLE_SECONDS: Final = 300.0


class NoConnectionError(Exception):
    """All connections were lent for ACQUIRE_SECONDS."""


class Connections:
    """The connection used last is lent first, so that what the load does not need stays untouched and can be closed."""

    def __init__(self, open_one: Callable[[], Awaitable[Connection]], *, most: int) -> None:
        """Nothing is opened before it is needed."""
        self._open_one = open_one
        self._most = most
        self._open: set[Connection] = set()
        #: Each with the loop's time at which it came back.
        self._idle: list[tuple[Connection, float]] = []
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        #: Open, being opened, or promised to a waiter that will open one.
        self._taken = 0
        self._closed = False
        self._tidying: asyncio.TimerHandle | None = None

    async def lend(self) -> Connection:
        """A connection; hand it to `give_back` or `discard` afterwards.

        Raises:
            NoConnectionError: none was to be had in time.
            Exception: whatever `open_one` raises.
        """
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                return connection
            self._forget(connection)
        if self._taken < self._most:
            self._taken += 1
            return await self._connect()
        return await self._wait() or await self._connect()

    def give_back(self, connection: Connection) -> None:
        """Return a connection that can be used again; one that is closed or in a transaction is discarded."""
        if self._closed or connection.is_closed() or connection.is_in_transaction():
            self.discard(connection)
            return
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        loop = asyncio.get_running_loop()
        self._idle.append((connection, loop.time()))
        if self._tidying is None:
            self._tidying = loop.call_later(IDLE_SECONDS, self._tidy)

    def discard(self, connection: Connection) -> None:
        """Return one whose state is unknown: it is cut off, and its place is free for a new one."""
        connection.terminate()
        self._open.discard(connection)
        self._free_place()

    async def close(self, disconnect: Callable[[Connection], Awaitable[Any]]) -> None:
        """Close in order what is idle, and cut off what is still lent: its statement has outlived its task."""
        self._closed = True
        if self._tidying:
            self._tidying.cancel()
        idle = [connection for connection, _ in self._idle]
        for connection in self._open.difference(idle):
            connection.terminate()
        await asyncio.gather(*map(disconnect, idle))

    async def _connect(self) -> Connection:
        """Open one in a place that is already taken for it."""
        try:
            connection = await self._open_one()
        except BaseException:
            self._free_place()
            raise
        self._open.add(connection)
        return connection

    async def _wait(self) -> Connection | None:
        """A connection, or None where there is room to open one."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[Connection | None] = loop.create_future()
        self._waiting.append(turn)
        timer = loop.call_later(ACQUIRE_SECONDS, self._refuse, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on(turn.result())
            raise
        finally:
            timer.cancel()

    def _refuse(self, turn: asyncio.Future[Connection | None]) -> None:
        if not turn.done():
            turn.set_exception(NoConnectionError(f"all {self._most} were busy for {ACQUIRE_SECONDS:g} s"))

    def _pass_on(self, connection: Connection | None) -> None:
        """What came to a waiter that had just left goes to the next."""
        if connection is None:
            self._free_place()
        else:
            self.give_back(connection)

    def _free_place(self) -> None:
        """Let the first who waits open a connection; else the place is free."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken -= 1

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._taken -= 1

    def _tidy(self) -> None:
        """Close what has been idle for too long: the bottom of the stack."""
        loop = asyncio.get_running_loop()
        oldest = loop.time() - IDLE_SECONDS
        fresh = next((i for i, (_, since) in enumerate(self._idle) if since > oldest), len(self._idle))
        for connection, _ in self._idle[:fresh]:
            # At once: it is idle, so nobody waits for anything on it.
            connection.terminate()
            self._forget(connection)
        del self._idle[:fresh]
        self._tidying = loop.call_later(IDLE_SECONDS, self._tidy)
