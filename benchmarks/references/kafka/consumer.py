"""Consuming with aiokafka alone: what it costs to read a topic and do nothing with it."""

import asyncio
import time
from typing import Final

from aiokafka import AIOKafkaConsumer

from benchmarks.rounds import Sample
from chassis.kafka import client_arguments
from chassis.settings import Kafka

CONSUME_SECONDS: Final = 300.0


async def consume(settings: Kafka, topic: str, *, records: int, batch: int = 1000) -> Sample:
    """Records a second, of a topic that holds so many, from its beginning to where it ends."""
    # Without a group it has every partition at once.
    consumer = AIOKafkaConsumer(
        topic, **client_arguments(settings), isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(CONSUME_SECONDS):
            partitions = consumer.assignment()
            ends = await consumer.end_offsets(partitions)
            start = time.perf_counter()
            while not all([await consumer.position(one) >= ends[one] for one in partitions]):
                await consumer.getmany(timeout_ms=100, max_records=batch)
            return Sample(records / (time.perf_counter() - start))
    finally:
        await consumer.stop()
