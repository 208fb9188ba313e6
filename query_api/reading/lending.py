"""Lends places for statements: as many at once as help, and no refusal for what a stall of the server takes.

It stands before the pool. CROWD statements run at once; the next waits for one of them. A statement that has run for
CROWD_SECONDS holds nobody up any more, so slow statements do bring all connections into use, and a long queue of quick
ones does not.

Guarantees: who asks is admitted in the order of asking, or refused after ACQUIRE_SECONDS of the server's time
(server_time.py). So an exhausted pool is told of within a second, and a stall of a second costs nobody an answer.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, NamedTuple

from chassis.postgres.pool import ACQUIRE_SECONDS, Connection, NoConnectionError, Pool
from query_api.reading.server_time import STALL_SECONDS, Ask, ServerTime

#: While so many statements run, a new one waits for one of them, and is shared by all who ask the same (reader.py). A
#: process can ask for 6,500 pages a second, eight connections can give 40,000. With thirty, a page that everybody asks
#: for cost PostgreSQL twice as much and this process a fifth more; pages no two of which are alike cost a tenth less.
CROWD: Final = 8
#: A statement that takes longer than this belongs to the crowd no more: others run beside it.
CROWD_SECONDS: Final = 0.05
#: No timer is set for less: loops count milliseconds.
_TICK_SECONDS: Final = 0.001


class Lending:
    """Lends a pool's connections, and takes them back, with the pool's own methods."""

    def __init__(self, pool: Pool, sign_of_life: Ask, *, crowd: int = CROWD) -> None:
        """`sign_of_life` asks the server for one; `crowd` is how many statements run at once while they are quick."""
        self._pool = pool
        self._crowd = min(crowd, pool.most)
        self._time = ServerTime(sign_of_life)
        self._waiters: deque[_Waiter] = deque()
        #: The number of statements admitted, and the times of those that still belong to the crowd, oldest first.
        self._admitted = 0
        self._crowding: dict[object, float] = {}
        #: When a statement was last seen to end, or the server to live.
        self._last_sign = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_crowded(self) -> bool:
        """True where whoever asks now has to wait until another one is given back."""
        return len(self._crowding) >= self._crowd or self._admitted >= self._pool.most or bool(self._waiters)

    async def lend(self) -> Connection:
        """A connection; hand it to `give_back` or `discard` afterwards.

        Raises:
            NoConnectionError: none was to be had in time, or at all because the pool is closed.
            Exception: whatever opening one raises.
        """
        # However silent the server is, the answer comes by then.
        deadline = asyncio.get_running_loop().time() + ACQUIRE_SECONDS + STALL_SECONDS
        place = object()
        if self.is_crowded:
            place = await self._wait(deadline)
        else:
            self._admit(place)
        try:
            connection = await self._pool.lend(deadline)
        except BaseException:
            self._leave(place)
            raise
        self._crowding.pop(place, None)
        self._crowding[connection] = self._time.now()
        return connection

    def give_back(self, connection: Connection) -> None:
        """Return a connection that can be used again."""
        self._pool.give_back(connection)
        self._last_sign = self._time.now()
        self._leave(connection)

    def discard(self, connection: Connection) -> None:
        """Return one whose state is unknown."""
        self._pool.discard(connection)
        self._leave(connection)

    def close(self) -> None:
        """Refuse those who wait; the pool refuses all others."""
        while self._waiters:
            self._refuse_next("the pool is closed")
        self._time.close()
        if self._timer:
            self._timer.cancel()

    def _admit(self, place: object) -> None:
        self._admitted += 1
        self._crowding[place] = self._time.now()

    def _leave(self, place: object) -> None:
        self._admitted -= 1
        self._crowding.pop(place, None)
        self._admit_waiters()

    async def _wait(self, deadline: float) -> object:
        """The place that is given to who asks now when it is their turn."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(_Waiter(turn, self._time.now() + ACQUIRE_SECONDS, deadline))
        self._set_timer(if_slow=_TICK_SECONDS)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.exception() is None:
                # The turn came to one that was just leaving.
                self._leave(turn)
            raise
        return turn

    def _admit_waiters(self) -> None:
        while self._waiters and len(self._crowding) < self._crowd and self._admitted < self._pool.most:
            turn = self._waiters.popleft().turn
            if not turn.done():
                self._admit(turn)
                turn.set_result(None)

    def _refuse_next(self, reason: str) -> None:
        turn = self._waiters.popleft().turn
        if not turn.done():
            turn.set_exception(NoConnectionError(reason))

    def _set_timer(self, if_slow: float) -> None:
        """Look after those who wait once a refusal is due or the crowd is slow; after `if_slow` seconds if it is."""
        if self._timer is None and self._waiters:
            now = self._time.now()
            slow = next(iter(self._crowding.values()), now) + CROWD_SECONDS - now
            seconds = min(self._waiters[0].until - now, slow if slow > 0 else if_slow)
            self._timer = asyncio.get_running_loop().call_later(max(seconds, _TICK_SECONDS), self._look_after_waiters)

    def _look_after_waiters(self) -> None:
        self._timer = None
        now, loop_now = self._time.now(), asyncio.get_running_loop().time()
        while self._waiters and self._waiters[0].is_over(now, loop_now):
            self._refuse_next(f"all {self._pool.most} were busy for {ACQUIRE_SECONDS:g} s")
        if self._waiters and now - self._last_sign < CROWD_SECONDS:
            self._pass_slow_statements()
        elif self._waiters:
            self._time.doubt(self._server_lives)
        self._set_timer(if_slow=CROWD_SECONDS)

    def _server_lives(self, stood: float) -> None:
        """The server has given a sign of life; after a stall, the statements that it held up come back first."""
        self._last_sign = self._time.now()
        if stood < CROWD_SECONDS:
            self._pass_slow_statements()

    def _pass_slow_statements(self) -> None:
        """Let those who wait pass the statements that take long: other statements, or a lock, hold these up."""
        slow = self._time.now() - CROWD_SECONDS
        for place, since in list(self._crowding.items()):
            if since > slow:
                break
            del self._crowding[place]
        self._admit_waiters()


class _Waiter(NamedTuple):
    """One request's turn, and until when it waits for it."""

    turn: asyncio.Future[None]
    #: The end of the wait in the server's time, and in the loop's at the latest.
    until: float
    deadline: float

    def is_over(self, now: float, loop_now: float) -> bool:
        """Whether it has waited enough, or has left."""
        return self.turn.done() or now >= self.until or loop_now >= self.deadline
