"""A stack of open connections to one database: lent to one task at a time, never more than allowed.

asyncpg's own pool makes two tasks and a proxy each time it lends a connection: 35 microseconds of the 150 that a page
may cost, a tenth of a command. Taking one from this stack is a list's pop. What it gives up is resetting: nothing may
be set on a session outside a transaction, and a connection whose state is in doubt is not used again.

Guarantees: at most `most` connections are open; who asks has one or is refused after ACQUIRE_SECONDS of the server's
time (server_time.py): an exhausted pool is told of within a second, and a stall of a second costs nobody an answer; who
waits is served in the order of asking; connections that the server closed are replaced; above `keep`, those that the
load does not need are closed once they have rested.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg

from chassis.postgres.server_time import Ask, ServerTime

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

#: A request that cannot get a connection within a second is better told to come back than kept waiting.
ACQUIRE_SECONDS: Final = 1.0
#: Connections above those to keep are closed when nobody has needed them for this long.
IDLE_SECONDS: Final = 300.0
#: Looks for them within that time: none rests longer by more than a fifth.
_IDLE_LOOKS: Final = 5
#: A crowd of statements that all take longer than this holds the next one up no more: it runs beside them.
CROWD_SECONDS: Final = 0.05
#: No timer is set for less: loops count milliseconds.
_TICK_SECONDS: Final = 0.001
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
        sign_of_life: Ask | None = None,
    ) -> None:
        """Nothing is opened before it is needed, or `fill` is called.

        While `crowd` have been lent within CROWD_SECONDS, who asks waits for one of them rather than have another.
        `sign_of_life` asks the server for one; without it, a server that is silent counts as one that is busy.
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
        #: When each was lent that may still belong to the crowd: those that come back slowly do not hold others up.
        self._crowding: dict[object, float] = {}
        self._time = ServerTime(sign_of_life)
        #: When a statement was last seen to end, or the server to live.
        self._heard = 0.0
        self._watching: asyncio.TimerHandle | None = None
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
        return bool(self._waiting) or not self._has_room()

    async def lend(self) -> Connection:
        """A connection; hand it to `give_back` or `discard` afterwards.

        Raises:
            NoConnectionError: none was to be had in time, or at all because of `close`.
            Exception: whatever `open_one` raises.
        """
        if self._waiting or not self._has_room():
            return await self._wait()
        connection = self._take()
        if connection is None:
            self._taken += 1
            connection = await self._connect(object(), self._latest())
        return connection

    def give_back(self, connection: Connection) -> None:
        """Return a connection that can be used again; one that is closed or in a transaction is discarded."""
        if self._closed or connection.is_closed() or connection.is_in_transaction():
            self.discard(connection)
            return
        loop = asyncio.get_running_loop()
        self._idle.append((connection, loop.time()))
        self._crowding.pop(connection, None)
        self._heard = self._time.now()
        if self._waiting:
            self._serve_next()
        if self._looking is None:
            self._looking = loop.call_later(self._idle_seconds / _IDLE_LOOKS, self._look)

    def discard(self, connection: Connection) -> None:
        """Return one whose state is unknown: it is cut off, and its place is free for a new one."""
        connection.terminate()
        self._open.discard(connection)
        self._crowding.pop(connection, None)
        self._free_place()

    async def fill(self) -> None:
        """Open connections until there are as many as are to be kept: one that a request opens itself costs it time.

        Raises:
            NoConnectionError: one was not opened in time.
            Exception: whatever `open_one` raises.
        """
        while self._taken < self._keep:
            self._taken += 1
            self.give_back(await self._connect(object(), self._latest()))

    async def close(self) -> None:
        """Close in order what is idle, and cut off what is still lent: its statement has outlived its task.

        Who waits is refused, and nothing is opened from then on.
        """
        self._closed = True
        while self._waiting:
            turn = self._waiting.popleft().turn
            if not turn.done():
                turn.set_exception(NoConnectionError(_CLOSED))
        self._time.close()
        for timer in filter(None, (self._looking, self._watching)):
            timer.cancel()
        if self._letting_go:
            await asyncio.wait([self._letting_go])
        idle = [connection for connection, _ in self._idle]
        for connection in self._open.difference(idle):
            connection.terminate()
        await asyncio.gather(*map(self._close_one, idle))

    async def _connect(self, place: object, latest: float) -> Connection:
        """Open one in a place that is already taken for it."""
        self._crowding[place] = self._time.now()
        try:
            self._refuse_if_closed()
            async with asyncio.timeout_at(latest):
                connection = await self._open_one()
        except BaseException as error:
            self._crowding.pop(place, None)
            self._free_place()
            if isinstance(error, TimeoutError):
                seconds = ACQUIRE_SECONDS + self._time.longest_stop
                raise NoConnectionError(f"none could be opened within {seconds:g} s") from error
            raise
        self._open.add(connection)
        self._crowding.pop(place, None)
        self._crowding[connection] = self._time.now()
        if self._closed:
            self.discard(connection)
            raise NoConnectionError(_CLOSED)
        return connection

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise NoConnectionError(_CLOSED)

    def _latest(self) -> float:
        """The loop's time at which who asks now has the answer, be the server as silent as it may."""
        return asyncio.get_running_loop().time() + ACQUIRE_SECONDS + self._time.longest_stop

    def _has_room(self) -> bool:
        return len(self._crowding) < self._crowd and self.lent < self._most

    def _take(self) -> Connection | None:
        """The idle connection used last, if there is one that still stands; it joins the crowd."""
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                self._crowding[connection] = self._time.now()
                return connection
            self._open.discard(connection)
            self._taken -= 1
        return None

    async def _wait(self) -> Connection:
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(turn, self._time.now() + ACQUIRE_SECONDS, self._latest())
        self._waiting.append(waiter)
        self._watch(again=_TICK_SECONDS)
        try:
            connection = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on(turn)
            raise
        return connection or await self._connect(turn, waiter.latest)

    def _serve_next(self) -> None:
        """Give those who wait what there is for them."""
        while self._waiting and self._has_room():
            turn = self._waiting.popleft().turn
            if turn.done():
                continue
            connection = self._take()
            if connection is None:
                self._taken += 1
                self._crowding[turn] = self._time.now()
            turn.set_result(connection)

    def _watch(self, again: float) -> None:
        """Look after those who wait when something is due: a refusal, or that the crowd becomes slow.

        Where it is slow already, `again` seconds from now.
        """
        if self._watching is None and self._waiting:
            now, head = self._time.now(), self._waiting[0]
            slow = next(iter(self._crowding.values()), now) + CROWD_SECONDS - now
            seconds = min(head.until - now, slow if slow > 0 else again)
            self._watching = asyncio.get_running_loop().call_later(max(seconds, _TICK_SECONDS), self._look_after)

    def _look_after(self) -> None:
        self._watching = None
        now, latest = self._time.now(), asyncio.get_running_loop().time()
        while self._waiting and self._waiting[0].is_over(now, latest):
            turn = self._waiting.popleft().turn
            if not turn.done():
                turn.set_exception(NoConnectionError(f"all {self._most} were busy for {ACQUIRE_SECONDS:g} s"))
        if self._waiting and now - self._heard < CROWD_SECONDS:
            self._pass_by()
        elif self._waiting:
            self._time.doubt(self._lives)
        self._watch(again=CROWD_SECONDS)

    def _lives(self, stood: float) -> None:
        """The server has given a sign of life; after a stall those that it held up come back first."""
        self._heard = self._time.now()
        if stood < CROWD_SECONDS:
            self._pass_by()

    def _pass_by(self) -> None:
        """Who waits may pass by the statements that take long: others, or a lock, hold them up."""
        slow = self._time.now() - CROWD_SECONDS
        for place, since in list(self._crowding.items()):
            if since > slow:
                break
            del self._crowding[place]
        self._serve_next()

    def _pass_on(self, turn: asyncio.Future[Connection | None]) -> None:
        """What came to a waiter that had just left goes to the next."""
        connection = turn.result()
        if connection is None:
            self._crowding.pop(turn, None)
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


class _Waiter(NamedTuple):
    """One request's turn, and until when it waits for it."""

    #: A connection, or None for "there is room: open one".
    turn: asyncio.Future[Connection | None]
    #: In the server's time, and in the loop's at the latest.
    until: float
    latest: float

    def is_over(self, now: float, latest: float) -> bool:
        """Whether it has waited enough, or has left."""
        return self.turn.done() or now >= self.until or latest >= self.latest
