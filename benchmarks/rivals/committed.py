"""What a read_committed consumer has of a contender's topic, from a moment on."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from chassis.kafka.client import client_arguments
from outbox.settings import RelaySettings

#: Between two looks at where the topic ends; a look is one small request.
LOOK_SECONDS: Final = 0.01
POLL_MS: Final = 200
MANY: Final = 10_000


class Committed:
    """The committed records of a topic since it was opened."""

    def __init__(self, consumer: AIOKafkaConsumer, begin: dict[TopicPartition, int]) -> None:
        """Use `committed_since_now`."""
        self._consumer = consumer
        self._begin = begin

    async def grown(self) -> int:
        """Return the offsets that have become readable: records, and the few markers of transactions among them."""
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(list(self._begin))
        return sum(ends.values()) - sum(self._begin.values())

    async def until_grown(self, offsets: int, *, within: float) -> None:
        """Wait until so many are readable.

        Raises:
            TimeoutError: they are not, within so many seconds.
        """
        async with asyncio.timeout(within):
            while await self.grown() < offsets:
                await asyncio.sleep(LOOK_SECONDS)

    async def records(self, events: int, *, quiet: float) -> list[ConsumerRecord]:
        """Return all records, once they are so many and no more come, or once nothing has come for `quiet` seconds."""
        for partition, offset in self._begin.items():
            self._consumer.seek(partition, offset)
        found: list[ConsumerRecord] = []
        last = time.monotonic()
        while time.monotonic() - last < quiet:
            polled = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=MANY)
            if polled:
                found += [record for records in polled.values() for record in records]
                last = time.monotonic()
            elif len(found) >= events:
                break
        return found


@asynccontextmanager
async def committed_since_now(settings: RelaySettings) -> AsyncIterator[Committed]:
    """Watch the events topic from its present end."""
    consumer = AIOKafkaConsumer(
        **client_arguments(settings), isolation_level="read_committed", enable_auto_commit=False
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(settings.events_topic, n) for n in range(settings.topic_partitions)]
        consumer.assign(partitions)
        yield Committed(consumer, await consumer.end_offsets(partitions))
    finally:
        await consumer.stop()
