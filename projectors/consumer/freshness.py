"""Tells up to which time a partition has surely been read, judged by the broker's answers.

The broker answers every fetch, after FETCH_WAIT_MS at the latest, and each answer gives the partition's readable end.
Once our position has reached that end, we have read everything that was readable when the request left. The request
left after the answer before it had arrived: so a moment at which that one had not arrived yet is sure. While we are
behind, ends that were given earlier are reached one after the other.

Moments are this process's monotonic ones, told in the database server's time. So no wall clock but that server's
counts: one that is set to another time here, at a broker or where events are written does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

#: So many ends are remembered of a partition that is behind: one that is an hour behind is told a minute's difference.
ENDS: Final = 64


@dataclass(slots=True)
class ServerClock:
    """The database server's clock, between two looks at it."""

    _time: datetime | None = None
    _heard: float = 0.0

    def note(self, time: datetime, heard: float) -> None:
        """The server said this time, and the answer was here at `heard`, by our monotonic clock."""
        self._time, self._heard = time, heard

    def at(self, moment: float) -> datetime | None:
        """The server's time at that moment of our monotonic clock, or a little before; None before the first look."""
        return None if self._time is None else self._time + timedelta(seconds=moment - self._heard)


@dataclass(slots=True)
class Freshness:
    """The freshness of one partition, since it was assigned."""

    #: When the newest answer was here, by our monotonic clock, or a little later; None before the first.
    heard: float | None = None
    _answer: int | None = None
    #: When somebody last looked, and the look after which the newest answer came.
    _looked: float | None = None
    _before_newest: float | None = None
    #: Ends that were given, each with a moment at which it was not further, in their order; of those that the position
    #: has reached only the last.
    _ends: list[tuple[int, float]] = field(default_factory=list)

    def observe(self, answer: int | None, end: int | None, now: float) -> None:
        """Look, at the monotonic time `now`, whether another answer has come: each has another time.

        `end` is the readable end that the newest answer has given.
        """
        if answer is not None and answer != self._answer:
            if end is not None and self._before_newest is not None:
                self._note(end, self._before_newest)
            self._before_newest, self._answer, self.heard = self._looked, answer, now
        self._looked = now

    def _note(self, end: int, moment: float) -> None:
        while self._ends and self._ends[-1][0] >= end:
            self._ends.pop()
        self._ends.append((end, moment))
        if len(self._ends) > ENDS:
            # The one that is missed least: its neighbours are closest in time.
            del self._ends[min(range(1, ENDS), key=lambda place: self._ends[place + 1][1] - self._ends[place - 1][1])]

    def seen_until(self, clock: ServerClock, position: int) -> datetime | None:
        """The time that is sure once everything before the position has been read; None while nothing is known."""
        reached = [moment for end, moment in self._ends if end <= position]
        if not reached:
            return None
        del self._ends[: len(reached) - 1]
        return clock.at(reached[-1])
