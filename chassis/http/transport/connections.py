"""All connections of one listener: how many there may be, who makes room, and who is looked at each second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
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
#: The same of probes, beside the others: who asks how a process is does not wait behind a thousand, and however many
#: ask, they keep nobody else waiting.
PROBES_AT_ONCE: Final = 4
#: Requests that may wait are read so many at a time, after a pause of so many seconds: two thousand a second.
#: A flood of what is refused at once so leaves most of a core to others, and to the hashes of their passwords.
LAST_AT_ONCE: Final = 16
LAST_PAUSE_SECONDS: Final = 0.008
#: A kind of refusal that has not come for this long has ended.
QUIET_SECONDS: Final = 60.0
#: Tells of a request, by bytes and where in them it begins, whether others are to be read before it.
MayWait = Callable[[bytes, int], bool]


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


class Line:
    """Connections whose new requests wait to be read, in the order of coming."""

    def __init__(self, at_once: int) -> None:
        """`at_once` of them are read in one turn of the loop."""
        self.at_once = at_once
        self.begun = 0
        self.unread: dict[Watched, None] = {}

    def has_room(self) -> bool:
        """Whether a new one can be read in this turn."""
        return not self.unread and self.begun < self.at_once

    def next_turn(self) -> list[Watched]:
        """Those that are read in the turn that begins now."""
        self.begun = 0
        begins = list(islice(self.unread, self.at_once))
        for connection in begins:
            del self.unread[connection]
        return begins


class Connections:
    """The connections of one listener; used in one loop."""

    def __init__(self, limits: Limits, *, probes: Iterable[str] = ()) -> None:
        """None yet; requests for the paths of `probes` are read ahead of others."""
        # An alert asks for it, and a rate sees no step to the first one of a series that was not there.
        _REFUSED.labels("full")
        self.limits = limits
        self._probing = tuple(f"{method} {path} ".encode() for path in probes for method in ("GET", "HEAD"))
        self.refusals = Refusals()
        self._open: set[Watched] = set()
        #: Those without a whole request to work on, the one first from which nothing has come for longest.
        self._idle: dict[Watched, None] = {}
        self._looking: asyncio.TimerHandle | None = None
        self._probes, self._others = self._lines_of_requests = Line(PROBES_AT_ONCE), Line(BEGUN_AT_ONCE)
        self._last = Line(LAST_AT_ONCE)
        self._has_next_turn = self._is_pausing = False

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
        self._leave_lines(connection)

    def _leave_lines(self, connection: Watched) -> None:
        for line in (*self._lines_of_requests, self._last):
            line.unread.pop(connection, None)

    def works(self, connection: Watched) -> None:
        """Its request is there, and is worked on."""
        self._idle.pop(connection, None)

    def rests(self, connection: Watched) -> None:
        """It has none, or a part of one has just come."""
        if connection in self._open:
            self._idle.pop(connection, None)
            self._idle[connection] = None

    def in_turn(self, connection: Watched, data: bytes, at: int = 0, may_wait: MayWait | None = None) -> None:
        """Have a new request read, which begins in `data` at `at`: now, or in one of the loop's next turns.

        One that `may_wait` is read after a pause; until then its connection makes room where that is needed.
        """
        if self._is_unread(connection):
            return
        line = self._probes if data.startswith(self._probing, at) else self._others
        if may_wait and may_wait(data, at):
            self._last.unread[connection] = None
            self._pause()
        elif line.has_room():
            self._begin(connection, line)
        else:
            line.unread[connection] = None
            self.works(connection)

    def read_later(self, connection: Watched) -> None:
        """Have more of a request read in one of the loop's next turns."""
        self._others.unread[connection] = None
        self._set_next_turn()

    def read_now(self, connection: Watched) -> bool:
        """Have it read, if it waits to be; tell whether it did."""
        waited = self._is_unread(connection)
        if waited:
            self._leave_lines(connection)
            connection.read()
        return waited

    def _is_unread(self, connection: Watched) -> bool:
        return any(connection in line.unread for line in (self._others, self._probes, self._last))

    def _begin(self, connection: Watched, line: Line) -> None:
        self._set_next_turn()
        line.begun += 1
        try:
            connection.read()
        except Exception:
            # A mistake of ours: it costs this connection, and none of those that are read in the same turn.
            log.exception("http.unexpected_error")
            connection.give_way()

    def _set_next_turn(self) -> None:
        if not self._has_next_turn:
            self._has_next_turn = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._has_next_turn = False
        for line in self._lines_of_requests:
            for connection in line.next_turn():
                self._begin(connection, line)

    def _pause(self) -> None:
        if not self._is_pausing and self._last.unread:
            self._is_pausing = True
            asyncio.get_running_loop().call_later(LAST_PAUSE_SECONDS, self._read_last)

    def _read_last(self) -> None:
        self._is_pausing = False
        for connection in self._last.next_turn():
            self._begin(connection, self._last)
        self._pause()

    def refuse(self, reason: str) -> None:
        """Count a refusal."""
        self.refusals.note(reason, asyncio.get_running_loop().time())

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        # Before anything else, so that nothing that goes wrong ends the watch.
        self._looking = loop.call_later(LOOK_SECONDS, self._look) if self._open or self.refusals else None
        for connection in list(self._open):
            connection.look(now)
        self.refusals.look(now)
