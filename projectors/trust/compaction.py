"""The reach of compaction: it may remove records that are older than `min.compaction.lag`, by the broker's times.

Records that stand behind the first younger one are all still there, so between their versions nothing can be missing
but what was never published. The broker is asked where that is only once a version seems to be missing: that offset
only grows, and what lay before it once, always will.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.kafka.client import REQUEST_SECONDS
from projectors.decoding.records import Record

#: An answer of the broker's holds for so long, and it is asked for so much earlier: a flood of records is odd in each
#: batch, and of a lag of hours a second is nothing.
LOOK_SECONDS: Final = 1.0


class Clock(Protocol):
    """A server's clock, as seen by our monotonic one."""

    def at(self, moment: float) -> datetime | None:
        """Its time at that moment; None while it is not known."""


class Compaction:
    """The offset up to which compaction may have come, in each partition of one topic."""

    def __init__(self, topic: str, lag: timedelta, clock: Clock) -> None:
        """Nothing is known yet; `consumer` is set by whoever reads."""
        self.consumer: AIOKafkaConsumer | None = None
        self._topic = topic
        self._lag = lag
        self._clock = clock
        self._until: dict[int, int] = {}
        #: The times, of our monotonic clock, until which partitions need not be asked about.
        self._known_until: dict[int, float] = {}

    def explains(self, record: Record) -> bool:
        """Whether what was before this record may have been removed, as far as is known."""
        return record.offset < self._until.get(record.partition, 0)

    async def look(self, last: Mapping[int, int]) -> None:
        """Ask the broker; `last` is the last offset that was read of each partition in question.

        Raises:
            KafkaError, TimeoutError: no answer.
        """
        moment = time.monotonic()
        asked = [number for number in last if self._known_until.get(number, 0) <= moment]
        if self.consumer is None or not asked:
            return
        now = self._clock.at(moment) or datetime.now(UTC)
        young = int((now - self._lag + timedelta(seconds=LOOK_SECONDS)).timestamp() * 1000)
        async with asyncio.timeout(REQUEST_SECONDS):
            found = await self.consumer.offsets_for_times(
                {TopicPartition(self._topic, partition): young for partition in asked}
            )
        for partition, first in found.items():
            number = partition.partition
            # No record is this young. So all that was read may be compacted, and later records are unknown.
            until = last[number] + 1 if first is None else first.offset
            self._until[number] = max(until, self._until.get(number, 0))
            self._known_until[number] = 0 if first is None else moment + LOOK_SECONDS
