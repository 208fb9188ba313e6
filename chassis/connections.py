"""A stack of open connections to one database: lent to one task at a time, never more than allowed.

asyncpg's own pool makes two tasks and a proxy each time it lends a connection: 35 microseconds of the 150 that a page
may cost, a tenth of a command. Taking one from this stack is a list's pop. What it gives up is resetting: nothing may
be set on a session outside a transaction, and a connection whose state is in doubt is not used again.

Guarantees: at most `most` connections are open; who asks has one or is refused after ACQUIRE_SECONDS, the opening
included; who waits is served in the order of asking; connections that the server closed are replaced; above `keep`,
those that the load does not need are closed once they have rested.
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
#: Connections above those to keep are closed when nobody has needed them for this long.
IDLE_SECONDS: Final = 300.0
#: Looks for them within that time: none rests longer by more than a fifth.
_IDLE_LOOKS: Final = 5
#: A crowd of statements that all take longer than this holds the next one up no more: it runs beside them.
CROWD_SECONDS: Final = 0.05
_CLOSED: Final = "they were closed"


class NoConnectionError(Exception):
    """None was free, or could be opened, within ACQUIRE_SECONDS."""


class Connections:
    """The connection used last is lent first, so that what the load does not need stays untouched and can be closed."""

    def __init__(  # noqa: PLR0913 - what opens and closes them, and the limits by name
        self,
        open_one: Callable[[], Awaitable[Connection]],
        close_one: Callable[[Connection], Awaitable[Any]],
        *,
        most: int,
        keep: int,
        crowd: int | None = None,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """Nothing is opened before it is needed, or `fill` is called.

        While `crowd` are lent, who asks waits for one of them to come back, at most CROWD_SECONDS, rather than have
        another.
        """
        self._open_one = open_one
        self._close_one = close_one
        self._most = most
        self._keep = keep
        self._crowd = min(crowd or most, most)
        self._idle_seconds = idle_seconds
        self._open: set[Connection] = set()
        #: Each with the loop's time at which it came back.
        self._idle: list[tuple[Connection, float]] = []
        self._waiting: deque[_Waiter] = deque()
        #: Open, being opened or closed, or promised to a waiter that will open one.
        self._taken = 0
        self._closed = False
        self._looking: asyncio.TimerHandle | None = None
        self._letting_go: asyncio.Task[None] | None = None

    @property
    def lent(self) -> int:
        """How many are in use now."""
        return self._taken - len(self._idle)

    @property
    def is_crowded(self) -> bool:
        """Whether who asks now has to wait until another one is given back."""
        return self._taken - len(self._idle) >= self._crowd

    async def lend(self) -> Connection:
        """A connection; hand it to `give_back` or `discard` afterwards.

        Raises:
            NoConnectionError: none was to be had in time, or at all because of `close`.
            Exception: whatever `open_one` raises.
        """
        if self._taken - len(self._idle) >= self._crowd:
            return await self._wait()
        connection = self._pop()
        if connection is not None:
            return connection
        self._taken += 1
        return await self._connect(asyncio.get_running_loop().time() + ACQUIRE_SECONDS)

    def give_back(self, connection: Connection) -> None:
        """Return a connection that can be used again; one that is closed or in a transaction is discarded."""
        if self._closed or connection.is_closed() or connection.is_in_transaction():
            self.discard(connection)
            return
        loop = asyncio.get_running_loop()
        self._idle.append((connection, loop.time()))
        if self._waiting:
            self._serve_next()
        if self._looking is None:
            self._looking = loop.call_later(self._idle_seconds / _IDLE_LOOKS, self._look)

    def discard(self, connection: Connection) -> None:
        """Return one whose state is unknown: it is cut off, and its place is free for a new one."""
        connection.terminate()
        self._open.discard(connection)
        self._free_place()

    async def fill(self) -> None:
        """Open connections until there are as many as are to be kept: one that a request opens itself costs it time.

        Raises:
            NoConnectionError: one was not opened in time.
            Exception: whatever `open_one` raises.
        """
        while self._taken < self._keep:
            self._taken += 1
            self.give_back(await self._connect(asyncio.get_running_loop().time() + ACQUIRE_SECONDS))

    async def close(self) -> None:
        """Close in order what is idle, and cut off what is still lent: its statement has outlived its task.

        Who waits is refused, and nothing is opened from then on.
        """
        self._closed = True
        while self._waiting:
            turn = self._waiting.popleft().turn
            if not turn.done():
                turn.set_exception(NoConnectionError(_CLOSED))
        if self._looking:
            self._looking.cancel()
        if self._letting_go:
            await asyncio.wait([self._letting_go])
        idle = [connection for connection, _ in self._idle]
        for connection in self._open.difference(idle):
            connection.terminate()
        await asyncio.gather(*map(self._close_one, idle))

    async def _connect(self, deadline: float) -> Connection:
        """Open one in a place that is already taken for it."""
        try:
            self._refuse_if_closed()
            async with asyncio.timeout_at(deadline):
                connection = await self._open_one()
        except BaseException as error:
            self._free_place()
            if isinstance(error, TimeoutError):
                raise NoConnectionError(f"none could be opened within {ACQUIRE_SECONDS:g} s") from error
            raise
        self._open.add(connection)
        if self._closed:
            self.discard(connection)
            raise NoConnectionError(_CLOSED)
        return connection

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise NoConnectionError(_CLOSED)

    def _pop(self) -> Connection | None:
        """The idle connection used last, if there is one that still stands."""
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                return connection
            self._open.discard(connection)
            self._taken -= 1
        return None

    async def _wait(self) -> Connection:
        waiter = _Waiter(self, patient=self._crowd < self._most)
        self._waiting.append(waiter)
        turn = waiter.turn
        try:
            connection = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on(turn.result())
            raise
        finally:
            waiter.timer.cancel()
        return connection or await self._connect(waiter.deadline)

    def _serve_next(self) -> None:
        """Give those who wait what there is for them: in the crowd, or beyond it when they have waited enough."""
        while self._waiting:
            waiter = self._waiting[0]
            if not waiter.turn.done():
                if self.lent >= (self._crowd if waiter.patient else self._most):
                    return
                connection = self._pop()
                if connection is None:
                    self._taken += 1
                waiter.turn.set_result(connection)
            self._waiting.popleft()

    def _refuse(self, waiter: _Waiter) -> None:
        waiter.turn.set_exception(NoConnectionError(f"all {self._most} were busy for {ACQUIRE_SECONDS:g} s"))

    def _pass_on(self, connection: Connection | None) -> None:
        """What came to a waiter that had just left goes to the next."""
        if connection is None:
            self._free_place()
        else:
            self.give_back(connection)

    def _free_place(self) -> None:
        self._taken -= 1
        self._serve_next()

    def _look(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(self._idle_seconds / _IDLE_LOOKS, self._look)
        if self._letting_go is None or self._letting_go.done():
            self._letting_go = asyncio.ensure_future(self._let_go()) if self._has_rested() else None

    def _has_rested(self) -> bool:
        """Whether there are more than to keep, and the one at the bottom of the stack was not needed for long."""
        if self._closed or self._taken <= self._keep or not self._idle:
            return False
        return self._idle[0][1] <= asyncio.get_running_loop().time() - self._idle_seconds

    async def _let_go(self) -> None:
        """Close what has rested, one after the other: each counts as open until the server was told."""
        while self._has_rested():
            connection, _ = self._idle.pop(0)
            try:
                await self._close_one(connection)
            finally:
                self._open.discard(connection)
                self._free_place()


class _Waiter:
    """One request's turn, and the clock that runs while it waits."""

    __slots__ = ("_connections", "deadline", "patient", "timer", "turn")

    def __init__(self, connections: Connections, *, patient: bool) -> None:
        self._connections = connections
        loop = asyncio.get_running_loop()
        self.deadline = loop.time() + ACQUIRE_SECONDS
        #: Whether it still waits rather than have one beyond the crowd.
        self.patient = patient
        #: A connection, or None for "there is room: open one".
        self.turn: asyncio.Future[Connection | None] = loop.create_future()
        self.timer = (
            loop.call_later(CROWD_SECONDS, self._lose_patience)
            if patient
            else loop.call_at(self.deadline, self._give_up)
        )

    def _lose_patience(self) -> None:
        self.patient = False
        self._connections._serve_next()  # noqa: SLF001 - its other half
        if not self.turn.done():
            self.timer = asyncio.get_running_loop().call_at(self.deadline, self._give_up)

    def _give_up(self) -> None:
        if not self.turn.done():
            self._connections._refuse(self)  # noqa: SLF001 - its other half
