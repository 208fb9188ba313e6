"""Up to which time a partition has surely been read, judged by the broker's answers.

The broker answers every fetch, after FETCH_WAIT_MS at the latest, and each answer gives the partition's readable end.
Once our position has reached that end, we have read everything that was readable when the request left. The request
left after the answer before it had arrived, and aiokafka keeps the time of each answer: so the time of the earlier
answer is sure. While we are behind, the timestamp of the last record read is sure: whatever was on the partition at
that time lies before it. Times are those of this machine's and the relay's clocks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime


@dataclass(slots=True)
class Freshness:
    """Of one partition, since it was assigned."""

    _earlier_answer: int | None = field(default=None)
    _answer: int | None = field(default=None)

    def observe(self, answer: int | None) -> None:
        """Note the time of the newest answer, in milliseconds since 1970."""
        if answer is not None and answer != self._answer:
            self._earlier_answer, self._answer = self._answer, answer

    def seen_until(self, *, at_end: bool, last_record: int | None) -> datetime | None:
        """The time that is sure, or None while nothing is known; `last_record` is a record's timestamp."""
        sure = [time for time in (self._earlier_answer if at_end else None, last_record) if time is not None]
        return datetime.fromtimestamp(max(sure) / 1000, UTC) if sure else None
