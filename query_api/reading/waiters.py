"""Waiting for users' rows to move: a waiter holds a place in a table and an event, no connection, no timer, no task.

Projectors notify after their commit; the ids in a notification wake who waits for them, and nobody else. Behind that
stands one look for all who wait in a projection: a statement asks which of the wanted versions have come, and wakes
only those who waited for them. Looks follow each other at an interval, because a notification may be lost with its
connection, and sooner after a notification that does not say whose rows moved; there is one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from math import inf
from typing import Final
from uuid import UUID

from chassis.http.problems import Problem
from chassis.lifecycle import end_task
from chassis.postgres.database import DatabaseUnavailableError
from query_api.protocol.problems import BUSY, retry_later

#: Between looks while notifications arrive: only one lost with its connection needs this.
POLL_SECONDS: Final = 0.5
#: Between looks while they do not: then the looks are all there is. Nor do notifications without ids make more of them.
DEAF_POLL_SECONDS: Final = 0.05
#: Users in one statement: a few milliseconds; as many as may wait by default, each for one.
LOOK_IDS: Final = 1000

#: The least version of each user that is fresh enough.
Wanted = Mapping[UUID, int]
#: Those of the wanted users of a projection that have the version, or a later one, and which.
Look = Callable[[str, Wanted], Awaitable[Iterable[tuple[UUID, int]]]]


class Waiter:
    """Somebody who waits for users' versions in one projection."""

    __slots__ = ("_failure", "moved", "wanted")

    def __init__(self, wanted: Wanted) -> None:
        """Wait for all of these."""
        self.wanted = wanted
        #: Set when it is worth reading again; clear it before reading.
        self.moved = asyncio.Event()
        self._failure: Exception | None = None

    def fail(self, error: Exception) -> None:
        """Nobody can say any more whether something moves."""
        self._failure = error
        self.moved.set()

    def raise_failure(self) -> None:
        """Raise what it failed with, if it did."""
        if self._failure:
            raise self._failure


class Arrivals:
    """Who waits for which user's rows, in which projection."""

    def __init__(self, look: Look, *, limit: int, hearing: Callable[[], bool]) -> None:
        """At most `limit` wait at once; `hearing` says whether notifications arrive."""
        self._look = look
        self._limit = limit
        self._hearing = hearing
        self._waiting = 0
        self._watches: dict[str, _Watch] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, look: Look, *, limit: int, hearing: Callable[[], bool]) -> AsyncIterator[Arrivals]:
        """Look until the block ends."""
        arrivals = cls(look, limit=limit, hearing=hearing)
        try:
            yield arrivals
        finally:
            for watch in arrivals._watches.values():
                await watch.close()

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return self._waiting

    @contextmanager
    def waiter(self, projection: str, wanted: Wanted) -> Iterator[Waiter]:
        """A waiter, woken when one of the users is named by a notification, or all have been seen to have come.

        Raises:
            Problem: 503 `busy`, as many as may are waiting.
        """
        if self._waiting >= self._limit:
            raise retry_later(BUSY, f"{self._limit} requests are waiting in this process already")
        watch = self._watches.get(projection)
        if watch is None:
            watch = self._watches[projection] = _Watch(partial(self._look, projection), self._hearing)
        waiter = Waiter(wanted)
        self._waiting += 1
        watch.join(waiter)
        try:
            yield waiter
        finally:
            self._waiting -= 1
            watch.leave(waiter)

    def moved(self, projection: str, payload: str) -> None:
        """A notification: ids separated by spaces, or nothing for "many"."""
        watch = self._watches.get(projection)
        if watch is None:
            return
        try:
            ids = [UUID(text) for text in payload.split()]
        except ValueError:
            ids = []
        if ids:
            watch.wake(ids)
        else:
            watch.hasten()


class _Watch:
    """Those who wait in one projection, and the looks that are taken for them."""

    def __init__(
        self, ask: Callable[[Wanted], Awaitable[Iterable[tuple[UUID, int]]]], hearing: Callable[[], bool]
    ) -> None:
        self._ask = ask
        self._hearing = hearing
        self._waiters: dict[UUID, set[Waiter]] = {}
        self._timer: asyncio.TimerHandle | None = None
        #: The loop's time of the next look and of the end of the last one.
        self._due = inf
        self._looked = -inf
        self._looking: asyncio.Task[None] | None = None
        #: A notification without ids came while a look was being taken.
        self._again = False

    def join(self, waiter: Waiter) -> None:
        for identifier in waiter.wanted:
            self._waiters.setdefault(identifier, set()).add(waiter)
        if self._timer is None and self._looking is None:
            self._plan(self._interval())

    def leave(self, waiter: Waiter) -> None:
        for identifier in waiter.wanted:
            self._waiters[identifier].discard(waiter)
            if not self._waiters[identifier]:
                del self._waiters[identifier]
        if not self._waiters:
            self._cancel_timer()

    def wake(self, ids: Iterable[UUID]) -> None:
        for identifier in ids:
            for waiter in self._waiters.get(identifier, ()):
                waiter.moved.set()

    def hasten(self) -> None:
        """Look as soon as looks may follow each other."""
        if self._looking:
            self._again = True
        elif self._waiters:
            self._plan(self._looked + DEAF_POLL_SECONDS - asyncio.get_running_loop().time())

    async def close(self) -> None:
        self._cancel_timer()
        if self._looking:
            await end_task(self._looking)

    def _interval(self) -> float:
        return POLL_SECONDS if self._hearing() else DEAF_POLL_SECONDS

    def _plan(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + max(seconds, 0)
        if due < self._due:
            self._cancel_timer()
            self._due = due
            self._timer = loop.call_at(due, self._begin)

    def _cancel_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = None
        self._due = inf

    def _begin(self) -> None:
        self._cancel_timer()
        self._again = False
        self._looking = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        pause = 0.0
        try:
            self._wake_reached(await self._reached())
        except (DatabaseUnavailableError, Problem):
            # They wait on, for it may come back in time; else the last reading of each says what is wrong.
            pause = POLL_SECONDS
        except Exception as error:  # noqa: BLE001 - it is raised again, by everyone who waits
            for waiters in self._waiters.values():
                for waiter in waiters:
                    waiter.fail(error)
        self._looking = None
        self._looked = asyncio.get_running_loop().time()
        if self._waiters:
            self._plan(max(pause, DEAF_POLL_SECONDS if self._again else self._interval()))

    async def _reached(self) -> Wanted:
        """Of the wanted users those that have the least version that anybody waits for, with the one they have."""
        least = [
            (identifier, min(waiter.wanted[identifier] for waiter in waiters))
            for identifier, waiters in self._waiters.items()
        ]
        found: dict[UUID, int] = {}
        for start in range(0, len(least), LOOK_IDS):
            for identifier, version in await self._ask(dict(least[start : start + LOOK_IDS])):
                found[identifier] = max(version, found.get(identifier, 0))
        return found

    def _wake_reached(self, found: Wanted) -> None:
        for identifier in found:
            for waiter in self._waiters.get(identifier, ()):
                if all(found.get(user, 0) >= version for user, version in waiter.wanted.items()):
                    waiter.moved.set()
