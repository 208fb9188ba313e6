"""A read_committed consumer that notes when each event arrives."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.kafka.client import client_arguments
from outbox.settings import RelaySettings


class Arrivals:
    """When each event arrived, by event id, on the clock of `time.perf_counter`."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}
        self._more = asyncio.Event()

    def note(self, event_id: str) -> None:
        """Note that this event has arrived."""
        self.times.setdefault(event_id, time.perf_counter())
        self._more.set()

    async def wait_for(self, event_ids: set[str], *, within: float) -> None:
        """Wait until all of them have arrived.

        Raises:
            TimeoutError: they have not, within so many seconds.
        """
        async with asyncio.timeout(within):
            while not event_ids <= self.times.keys():
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def arriving(settings: RelaySettings) -> AsyncIterator[Arrivals]:
    """Watch the events topic from its present end."""
    consumer = AIOKafkaConsumer(
        **client_arguments(settings), isolation_level="read_committed", enable_auto_commit=False
    )
    arrivals = Arrivals()
    await consumer.start()
    try:
        partitions = [TopicPartition(settings.events_topic, n) for n in range(settings.topic_partitions)]
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        for partition in partitions:
            await consumer.position(partition)
        task = asyncio.create_task(_note(consumer, arrivals))
        try:
            yield arrivals
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    finally:
        await consumer.stop()


async def _note(consumer: AIOKafkaConsumer, arrivals: Arrivals) -> None:
    async for record in consumer:
        arrivals.note(dict(record.headers)["ce_id"].decode())
