"""Up to which time a partition has surely been read, judged by the broker's answers.

The broker answers every fetch, after FETCH_WAIT_MS at the latest, and each answer gives the partition's readable end.
Once our position has reached that end, we have read everything that was readable when the request left. The request
left after the answer before it had arrived: so a moment at which that one had not arrived yet is sure. While we are
behind, the time at which the broker appended the last record read is sure: whatever was on the partition then lies
before it. A record that brings its writer's time instead says nothing.

Moments are this process's monotonic ones, told in the database server's time. So no wall clock but that server's
counts, and one that is set to another time here does no harm.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiokafka import ConsumerRecord

#: How Kafka marks a time that the broker gave the record.
_APPENDED = 1


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
    """Of one partition, since it was assigned."""

    _answer: int | None = None
    #: When somebody last looked, and the looks after which the newest answer came, and the one before it.
    _looked: float | None = None
    _before_newest: float | None = None
    _before_earlier: float | None = None

    def observe(self, answer: int | None, now: float) -> None:
        """Look, at the monotonic time `now`, whether another answer has come: each has another time."""
        if answer is not None and answer != self._answer:
            self._before_earlier, self._before_newest, self._answer = self._before_newest, self._looked, answer
        self._looked = now

    def seen_until(
        self, clock: ServerClock, *, at_end: bool, last: ConsumerRecord[bytes, bytes] | None
    ) -> datetime | None:
        """The time that is sure, or None while nothing is known; `last` is the last record read."""
        sure = []
        if at_end and self._before_earlier is not None and (moment := clock.at(self._before_earlier)) is not None:
            sure.append(moment)
        if last is not None and last.timestamp_type == _APPENDED:
            sure.append(datetime.fromtimestamp(last.timestamp / 1000, UTC))
        return max(sure, default=None)
