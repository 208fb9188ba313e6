"""A pool of connections to one database, each lent to one task at a time.

asyncpg's own pool makes two tasks and a proxy each time it lends a connection: 35 microseconds of the 150 that a page
may cost, a tenth of a command. Taking one from this pool is a list's pop. The price: sessions are not reset, so nothing
may be set on one outside a transaction, and a connection whose state is in doubt is not used again.

Guarantees: at most `most` connections are open. Who asks gets one, in the order of asking, or is refused: after
ACQUIRE_SECONDS if all are busy, after OPEN_SECONDS if none could be opened. Connections that the server closed are
replaced. Above `keep`, those that the load does not need are closed once they have rested for IDLE_SECONDS.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

#: A request that cannot get a connection within a second is better told to come back than kept waiting.
ACQUIRE_SECONDS: Final = 1.0
#: The limit where one must be opened: that takes milliseconds, and shall survive a server that stalls for a second.
OPEN_SECONDS: Final = 2.0
#: Connections above those to keep are closed when nobody has needed them for this long.
IDLE_SECONDS: Final = 300.0
#: Checks within that time: none rests longer by more than a fifth.
_IDLE_CHECKS: Final = 5
_CLOSED: Final = "the pool is closed"


class NoConnectionError(Exception):
    """No connection was free, or could be opened, in time."""


class Pool:
    """The connection used last is lent first, so that those the load does not need rest and can be closed."""

    def __init__(
        self,
        open_one: Callable[[], Awaitable[Connection]],
        close_one: Callable[[Connection], Awaitable[Any]],
        *,
        most: int,
        keep: int,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """Nothing is opened before it is needed, or `fill` is called."""
        self.most = most
        #: The number in use now, those that are being opened or closed included.
        self.lent = 0
        self._open_one = open_one
        self._close_one = close_one
        self._keep = keep
        self._idle_seconds = idle_seconds
        #: Those who wait for a place; somebody does only while all are lent.
        self._waiting: deque[asyncio.Future[None]] = deque()
        #: By the loop's time at which each was opened.
        self._open: dict[Connection, float] = {}
        #: Each with the loop's time at which it came back; the one used last at the end.
        self._idle: list[tuple[Connection, float]] = []
        self._idle_check: asyncio.TimerHandle | None = None
        self._closing_idle: asyncio.Task[None] | None = None
        self._closed = False

    async def lend(self, deadline: float | None = None) -> Connection:
        """A connection; hand it to `give_back` or `discard` afterwards.

        `deadline` is the loop's time at which a refusal comes at the latest, by default OPEN_SECONDS from now.

        Raises:
            NoConnectionError: none was to be had in time, or at all because of `close`.
            Exception: whatever `open_one` raises.
        """
        self._refuse_if_closed()
        if self.lent < self.most:
            self.lent += 1
        else:
            deadline = deadline or _deadline()
            await self._wait_for_place()
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed():
                return connection
            self._open.pop(connection, None)
        return await self._open_in_place(deadline or _deadline())

    def give_back(self, connection: Connection) -> None:
        """Return a connection that can be used again; one that is closed or in a transaction is discarded."""
        if self._closed or connection.is_closed() or connection.is_in_transaction():
            self.discard(connection)
            return
        loop = asyncio.get_running_loop()
        self._idle.append((connection, loop.time()))
        self._free_place()
        if self._idle_check is None:
            self._idle_check = loop.call_later(self._idle_seconds / _IDLE_CHECKS, self._check_idle)

    def discard(self, connection: Connection) -> None:
        """Cut off a connection whose state is unknown; its place is free for a new one."""
        connection.terminate()
        self._open.pop(connection, None)
        self._free_place()

    def drop_idle(self, opened_before: float) -> None:
        """Cut off those that nobody uses, and that were opened before a time of the loop's.

        What ended one at the server, such as its own end, often ends all that were there.
        """
        dropped = [connection for connection, _ in self._idle if self._open[connection] < opened_before]
        self._idle = [(connection, since) for connection, since in self._idle if connection not in dropped]
        for connection in dropped:
            connection.terminate()
            del self._open[connection]

    async def fill(self) -> None:
        """Open connections until there are as many as are to be kept: one that a request opens itself costs it time.

        Raises:
            NoConnectionError: one was not opened in time.
            Exception: whatever `open_one` raises.
        """
        self._refuse_if_closed()
        while self.lent + len(self._idle) < self._keep:
            self.lent += 1
            self.give_back(await self._open_in_place(_deadline()))

    async def close(self) -> None:
        """Close in order what is idle, and cut off what is still lent: its statement has outlived its task.

        Who waits is refused, and nothing is opened from then on.
        """
        self._closed = True
        while self._waiting:
            _refuse(self._waiting.popleft(), _CLOSED)
        if self._idle_check:
            self._idle_check.cancel()
        if self._closing_idle:
            await asyncio.wait([self._closing_idle])
        idle = [connection for connection, _ in self._idle]
        for connection in self._open.keys() - idle:
            connection.terminate()
        await asyncio.gather(*map(self._close_one, idle))

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise NoConnectionError(_CLOSED)

    async def _wait_for_place(self) -> None:
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append(turn)
        timer = loop.call_later(ACQUIRE_SECONDS, _refuse, turn, f"all {self.most} were busy for {ACQUIRE_SECONDS:g} s")
        try:
            await turn
        except BaseException:
            if turn.cancelled() or turn.exception():
                with suppress(ValueError):
                    self._waiting.remove(turn)
            else:
                # The turn came to one that was just leaving.
                self._free_place()
            raise
        finally:
            timer.cancel()

    def _free_place(self) -> None:
        """Give the place to the next who waits."""
        self.lent -= 1
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                self.lent += 1
                turn.set_result(None)
                return

    async def _open_in_place(self, deadline: float) -> Connection:
        """Open one in a place that was taken for it."""
        try:
            self._refuse_if_closed()
            async with asyncio.timeout_at(deadline):
                connection = await self._open_one()
        except BaseException as error:
            self._free_place()
            if isinstance(error, TimeoutError):
                raise NoConnectionError("none could be opened in time") from error
            raise
        self._open[connection] = asyncio.get_running_loop().time()
        if self._closed:
            self.discard(connection)
            raise NoConnectionError(_CLOSED)
        return connection

    def _check_idle(self) -> None:
        self._idle_check = asyncio.get_running_loop().call_later(self._idle_seconds / _IDLE_CHECKS, self._check_idle)
        if self._has_rested() and (self._closing_idle is None or self._closing_idle.done()):
            self._closing_idle = asyncio.ensure_future(self._close_rested())

    def _has_rested(self) -> bool:
        """Whether there are more than to keep, and the one at the bottom of the stack was not needed for long."""
        if self._closed or not self._idle or self.lent + len(self._idle) <= self._keep:
            return False
        return self._idle[0][1] <= asyncio.get_running_loop().time() - self._idle_seconds

    async def _close_rested(self) -> None:
        """Close one after the other; each keeps its place until the server was told."""
        while self._has_rested():
            connection, _ = self._idle.pop(0)
            self.lent += 1
            try:
                await self._close_one(connection)
            finally:
                self._open.pop(connection, None)
                self._free_place()


def _refuse(turn: asyncio.Future[None], reason: str) -> None:
    if not turn.done():
        turn.set_exception(NoConnectionError(reason))


def _deadline() -> float:
    return asyncio.get_running_loop().time() + OPEN_SECONDS
