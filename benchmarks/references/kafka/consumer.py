"""Consuming with aiokafka alone: what it costs to read a topic and do nothing with it."""

import asyncio
import time
from typing import Final

from aiokafka import AIOKafkaConsumer

from benchmarks.running.rounds import Sample
from chassis.kafka.client import client_arguments
from chassis.settings import Kafka

CONSUME_SECONDS: Final = 300.0


async def consume(settings: Kafka, topic: str, *, records: int, batch: int = 1000, passes: int = 1) -> Sample:
    """Records a second, of a topic that holds so many, from its beginning to where it ends; so many times over.

    Part `cpu` is this process's microseconds a record.
    """
    # Without a group it has every partition at once.
    consumer = AIOKafkaConsumer(
        topic, **client_arguments(settings), isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        async with asyncio.timeout(CONSUME_SECONDS):
            partitions = consumer.assignment()
            ends = await consumer.end_offsets(partitions)
            seconds = cpu = 0.0
            for _ in range(passes):
                await consumer.seek_to_beginning(*partitions)
                start, used = time.perf_counter(), time.process_time()
                while not all([await consumer.position(one) >= ends[one] for one in partitions]):
                    await consumer.getmany(timeout_ms=100, max_records=batch)
                seconds, cpu = seconds + time.perf_counter() - start, cpu + time.process_time() - used
            return Sample(records * passes / seconds, {"cpu": cpu / records / passes * 1e6})
    finally:
        await consumer.stop()
