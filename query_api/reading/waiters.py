"""Requests that wait for a version: a waiter is an entry in a table and an event, no connection, no timer, no task.

Projectors notify after their commit, and the ids in a notification wake the waiters for those ids. Notifications can be
lost with their connection, so each projection that somebody waits for is also polled: one statement asks which of the
wanted versions have been reached, for all its waiters, and wakes those for whom all have. Polls follow each other at an
interval, earlier after a notification without ids; a projection has one poll at a time.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from math import inf
from typing import Final
from uuid import UUID

from chassis.http.problems import BUSY, Problem
from chassis.lifecycle import end_task
from chassis.postgres.database import DatabaseUnavailableError
from query_api.protocol.problems import retry_later
from query_api.reading.versions import WantedVersions

#: Seconds between polls while notifications arrive: then only a lost notification needs a poll.
POLL_SECONDS: Final = 0.5
#: Seconds between polls while no notifications arrive, and the least between two polls whatever is notified.
SHORTEST_POLL_SECONDS: Final = 0.05
#: Ids in one statement, which takes a few milliseconds: as many as may wait by default, each for one.
POLL_IDS: Final = 1000

#: The ids of a projection that have the wanted version or a later one, each with the version it has.
ReadReached = Callable[[str, WantedVersions], Awaitable[Iterable[tuple[UUID, int]]]]


class Waiter:
    """One request that waits for versions in one projection."""

    __slots__ = ("_failure", "moved", "wanted")

    def __init__(self, wanted: WantedVersions) -> None:
        """Wait for all of these."""
        self.wanted = wanted
        #: Set when the request should read again; clear it before reading.
        self.moved = asyncio.Event()
        self._failure: Exception | None = None

    def fail(self, error: Exception) -> None:
        """Wake the request with an error: nobody can tell any more whether a version is reached."""
        self._failure = error
        self.moved.set()

    def raise_failure(self) -> None:
        """Raise the error of `fail`, if there was one."""
        if self._failure:
            raise self._failure


class Waiters:
    """All waiters of a process, by projection."""

    def __init__(self, read_reached: ReadReached, *, limit: int, notified: Callable[[], bool]) -> None:
        """At most `limit` wait at once; `notified` says whether notifications arrive now."""
        self._read_reached = read_reached
        self._limit = limit
        self._notified = notified
        self._notifications: Counter[str] = Counter()
        self._waiting = 0
        self._projections: dict[str, _ProjectionWaiters] = {}

    @classmethod
    @asynccontextmanager
    async def open(
        cls, read_reached: ReadReached, *, limit: int, notified: Callable[[], bool]
    ) -> AsyncIterator[Waiters]:
        """Poll, where somebody waits, until the block ends."""
        waiters = cls(read_reached, limit=limit, notified=notified)
        try:
            yield waiters
        finally:
            for projection in waiters._projections.values():
                await projection.close()

    @property
    def waiting(self) -> int:
        """The number of requests that wait now."""
        return self._waiting

    def notifications(self, projection: str) -> int:
        """The number of notifications of a projection so far."""
        return self._notifications[projection]

    @contextmanager
    def waiter(self, projection: str, wanted: WantedVersions) -> Iterator[Waiter]:
        """A waiter, woken when a notification names one of the ids, or when a poll finds all versions reached.

        Raises:
            Problem: 503 `busy`, as many requests wait as may.
        """
        if self._waiting >= self._limit:
            raise retry_later(BUSY, f"{self._limit} requests are waiting in this process already")
        others = self._projections.get(projection)
        if others is None:
            others = self._projections[projection] = _ProjectionWaiters(
                partial(self._read_reached, projection), self._notified
            )
        waiter = Waiter(wanted)
        self._waiting += 1
        others.join(waiter)
        try:
            yield waiter
        finally:
            self._waiting -= 1
            others.leave(waiter)

    def notify(self, projection: str, payload: str) -> None:
        """Take a notification: ids separated by spaces, or nothing for "many"."""
        self._notifications[projection] += 1
        waiters = self._projections.get(projection)
        if waiters is None:
            return
        try:
            ids = [UUID(text) for text in payload.split()]
        except ValueError:
            ids = []
        if ids:
            waiters.wake(ids)
        else:
            waiters.poll_soon()


class _ProjectionWaiters:
    """The waiters of one projection, and the polls on their behalf."""

    def __init__(
        self,
        read_reached: Callable[[WantedVersions], Awaitable[Iterable[tuple[UUID, int]]]],
        notified: Callable[[], bool],
    ) -> None:
        self._read_reached = read_reached
        self._notified = notified
        self._waiters: dict[UUID, set[Waiter]] = {}
        self._timer: asyncio.TimerHandle | None = None
        #: The loop's time of the next poll and of the end of the last one.
        self._due = inf
        self._polled = -inf
        self._polling: asyncio.Task[None] | None = None
        #: A notification without ids came during a poll.
        self._again = False

    def join(self, waiter: Waiter) -> None:
        for identifier in waiter.wanted:
            self._waiters.setdefault(identifier, set()).add(waiter)
        if self._timer is None and self._polling is None:
            self._schedule(self._interval())

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

    def poll_soon(self) -> None:
        """Poll as soon as polls may follow each other."""
        if self._polling:
            self._again = True
        elif self._waiters:
            self._schedule(self._polled + SHORTEST_POLL_SECONDS - asyncio.get_running_loop().time())

    async def close(self) -> None:
        self._cancel_timer()
        if self._polling:
            await end_task(self._polling)

    def _interval(self) -> float:
        return POLL_SECONDS if self._notified() else SHORTEST_POLL_SECONDS

    def _schedule(self, seconds: float) -> None:
        """Poll after so many seconds, unless a poll is due earlier."""
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
        self._polling = asyncio.ensure_future(self._poll())

    async def _poll(self) -> None:
        pause = 0.0
        try:
            self._wake_reached(await self._reached())
        except (DatabaseUnavailableError, Problem):
            # The database may come back in time; if not, the last read of each request says what is wrong.
            pause = POLL_SECONDS
        except Exception as error:  # noqa: BLE001 - every waiter raises it again
            for waiters in self._waiters.values():
                for waiter in waiters:
                    waiter.fail(error)
        self._polling = None
        self._polled = asyncio.get_running_loop().time()
        if self._waiters:
            self._schedule(max(pause, SHORTEST_POLL_SECONDS if self._again else self._interval()))

    async def _reached(self) -> WantedVersions:
        """The ids that have reached the least version that anybody waits for, with the version each has."""
        least = [
            (identifier, min(waiter.wanted[identifier] for waiter in waiters))
            for identifier, waiters in self._waiters.items()
        ]
        found: dict[UUID, int] = {}
        for start in range(0, len(least), POLL_IDS):
            for identifier, version in await self._read_reached(dict(least[start : start + POLL_IDS])):
                found[identifier] = max(version, found.get(identifier, 0))
        return found

    def _wake_reached(self, found: WantedVersions) -> None:
        for identifier in found:
            for waiter in self._waiters.get(identifier, ()):
                if all(found.get(wanted, 0) >= version for wanted, version in waiter.wanted.items()):
                    waiter.moved.set()
