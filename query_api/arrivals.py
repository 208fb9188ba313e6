"""Waiting for users' rows to move: a waiter holds a place in a table and an event, no connection and no timer loop.

Projectors notify after their commit; the ids in the notification wake who waits for them, a notification without ids
wakes all. Behind it a poll, because a notification may be lost with its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final
from uuid import UUID

from query_api.problems import BUSY, retry_later

#: Between looks while notifications arrive: only one lost with its connection needs this.
POLL_SECONDS: Final = 0.5
#: Between looks while they do not: then the poll is all there is.
DEAF_POLL_SECONDS: Final = 0.05


class Arrivals:
    """Who waits for which user's rows, in which projection."""

    def __init__(self, *, limit: int, hearing: Callable[[], bool]) -> None:
        """At most `limit` wait at once; `hearing` says whether notifications arrive."""
        self._limit = limit
        self._hearing = hearing
        self._waiting = 0
        self._events: dict[str, dict[UUID, set[asyncio.Event]]] = {}

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return self._waiting

    @property
    def poll_seconds(self) -> float:
        """How long to wait for a notification before looking again."""
        return POLL_SECONDS if self._hearing() else DEAF_POLL_SECONDS

    @contextmanager
    def waiter(self, projection: str, ids: Collection[UUID]) -> Iterator[asyncio.Event]:
        """An event that is set whenever one of the users' rows may have moved; clear it before looking.

        Raises:
            Problem: 503 `busy`, as many as may are waiting.
        """
        if self._waiting >= self._limit:
            raise retry_later(BUSY, f"{self._limit} requests are waiting in this process already")
        event = asyncio.Event()
        events = self._events.setdefault(projection, {})
        self._waiting += 1
        for identifier in ids:
            events.setdefault(identifier, set()).add(event)
        try:
            yield event
        finally:
            self._waiting -= 1
            for identifier in ids:
                events[identifier].discard(event)
                if not events[identifier]:
                    del events[identifier]

    def moved(self, projection: str, payload: str) -> None:
        """A notification: ids separated by spaces, or nothing for "many"."""
        events = self._events.get(projection)
        if not events:
            return
        try:
            ids = [UUID(text) for text in payload.split()]
        except ValueError:
            ids = []
        for identifier in ids or list(events):
            for event in events.get(identifier, ()):
                event.set()
