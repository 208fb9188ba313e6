"""All connections of one listener: how many there may be, who makes room, and who is looked at each second."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Final, Protocol

import structlog
from prometheus_client import Counter

from chassis.http.transport.limits import LOOK_SECONDS, Limits

log = structlog.get_logger("http")

_REFUSED: Final = Counter(
    "muster_http_refusals_total", "Requests and connections that were refused before any app saw them.", ["reason"]
)
#: New requests that are read in one turn of the loop. Where thousands come at once, what was begun goes on in between:
#: otherwise each answer of the database would wait until all of them are read.
BEGUN_AT_ONCE: Final = 16
#: A kind of refusal that has not come for this long has ended.
QUIET_SECONDS: Final = 60.0


class Watched(Protocol):
    """One connection, as those who watch over all see it."""

    def read(self) -> None:
        """Read what came, up to the end of a request."""

    def look(self, now: float) -> None:
        """End what takes too long."""

    def give_way(self) -> None:
        """Close at once, because others need the room."""


class Refusals:
    """Counts refusals by their reason, and logs when a kind of them begins and ends: a flood is two lines."""

    def __init__(self) -> None:
        #: By reason, when it came last and how often by now.
        self._now: dict[str, tuple[float, int]] = {}

    def __bool__(self) -> bool:
        """Whether there is a kind that has not ended."""
        return bool(self._now)

    def note(self, reason: str, now: float) -> None:
        """Count one."""
        _REFUSED.labels(reason).inc()
        _, times = self._now.get(reason, (now, 0))
        if not times:
            log.warning("http.refusing", reason=reason)
        self._now[reason] = now, times + 1

    def look(self, now: float) -> None:
        """Tell of the kinds that have ended."""
        for reason, (last, times) in list(self._now.items()):
            if now - last >= QUIET_SECONDS:
                del self._now[reason]
                log.info("http.refused", reason=reason, times=times)


class Connections:
    """The connections of one listener; used in one loop."""

    def __init__(self, limits: Limits) -> None:
        """None yet."""
        self.limits = limits
        self.refusals = Refusals()
        self._open: set[Watched] = set()
        #: Those without a whole request to work on, the one first from which nothing has come for longest.
        self._idle: dict[Watched, None] = {}
        self._looking: asyncio.TimerHandle | None = None
        #: New requests that were read in this turn of the loop, and those that wait for another.
        self._begun = 0
        self._unread: dict[Watched, None] = {}
        self._headers: list[tuple[bytes, bytes]] = []
        self._lines: list[bytes] = []

    def admit(self, connection: Watched) -> bool:
        """Take a new connection, for which the longest idle one makes room; False where all are at work."""
        loop = asyncio.get_running_loop()
        if len(self._open) >= self.limits.connections:
            if not self._idle:
                self.refuse("full")
                return False
            oldest = next(iter(self._idle))
            self.remove(oldest)
            oldest.give_way()
            self.refuse("idle")
        self._open.add(connection)
        self.rests(connection)
        if self._looking is None:
            self._looking = loop.call_later(LOOK_SECONDS, self._look)
        return True

    def remove(self, connection: Watched) -> None:
        """It has ended."""
        self._open.discard(connection)
        self._idle.pop(connection, None)
        self._unread.pop(connection, None)

    def works(self, connection: Watched) -> None:
        """Its request is there, and is worked on."""
        self._idle.pop(connection, None)

    def rests(self, connection: Watched) -> None:
        """It has none, or a part of one has just come."""
        if connection in self._open:
            self._idle.pop(connection, None)
            self._idle[connection] = None

    def in_turn(self, connection: Watched) -> None:
        """Have a new request read: now, or in one of the loop's next turns, in the order of coming."""
        if self._unread or self._begun == BEGUN_AT_ONCE:
            self._unread.setdefault(connection)
            self.works(connection)
        else:
            self._begin(connection)

    def read_now(self, connection: Watched) -> bool:
        """Have it read, if it waits to be; tell whether it did."""
        waited = connection in self._unread
        if waited:
            del self._unread[connection]
            connection.read()
        return waited

    def _begin(self, connection: Watched) -> None:
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._begin_next)
        self._begun += 1
        connection.read()

    def _begin_next(self) -> None:
        self._begun = 0
        for connection in list(islice(self._unread, BEGUN_AT_ONCE)):
            del self._unread[connection]
            self._begin(connection)

    def refuse(self, reason: str) -> None:
        """Count a refusal."""
        self.refusals.note(reason, asyncio.get_running_loop().time())

    def lines_of(self, headers: list[tuple[bytes, bytes]]) -> list[bytes]:
        """Headers as they are sent; the same list is not written out again."""
        if headers is not self._headers:
            self._headers, self._lines = headers, [name + b": " + value for name, value in headers]
        return self._lines

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        # Before anything else, so that nothing that goes wrong ends the watch.
        self._looking = loop.call_later(LOOK_SECONDS, self._look) if self._open or self.refusals else None
        for connection in list(self._open):
            connection.look(now)
        self.refusals.look(now)
