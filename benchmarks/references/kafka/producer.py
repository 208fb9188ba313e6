"""Producing with aiokafka alone, in the three ways it has: `send()`, whole batches, and one record awaited at a time.

Idempotent and acknowledged by all replicas, as any careful producer is; compressed as the relay compresses.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaProducer

from benchmarks.reporting.figures import percentile
from benchmarks.running.rounds import Sample
from chassis.kafka.client import client_arguments
from chassis.settings import Kafka

#: The size of the relay's batches: a page of events is a few of them.
BATCH_BYTES: Final = 512 * 1024
#: For everything to be acknowledged.
SEND_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Message:
    """One record to be sent."""

    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()


@asynccontextmanager
async def producing(settings: Kafka) -> AsyncIterator[AIOKafkaProducer]:
    """Yield a started producer, and stop it in any case."""
    producer = AIOKafkaProducer(
        **client_arguments(settings), enable_idempotence=True, compression_type="lz4", max_batch_size=BATCH_BYTES
    )
    await producer.start()
    try:
        yield producer
    finally:
        await producer.stop()


async def send(settings: Kafka, topic: str, messages: Sequence[Message]) -> Sample:
    """Return acknowledged messages per second with `send()`; part `cpu` is this process's milliseconds for each."""
    async with producing(settings) as producer:
        await producer.partitions_for(topic)
        start, cpu = time.perf_counter(), time.process_time()
        async with asyncio.timeout(SEND_SECONDS):
            futures = [await producer.send(topic, m.value, key=m.key, headers=m.headers) for m in messages]
            await asyncio.gather(*futures)
        return _sample(len(messages), start, cpu)


async def send_batches(settings: Kafka, topic: str, messages: Sequence[Message]) -> Sample:
    """Return messages per second in batches of `create_batch()`, each key on its partition; `cpu` as above."""
    async with producing(settings) as producer:
        partitions = sorted(await producer.partitions_for(topic))
        start, cpu = time.perf_counter(), time.process_time()
        by_partition: defaultdict[int, list[Message]] = defaultdict(list)
        for message in messages:
            by_partition[partitions[hash(message.key) % len(partitions)]].append(message)
        async with asyncio.timeout(SEND_SECONDS):
            futures = [
                future
                for partition, mine in by_partition.items()
                for future in await _send_partition(producer, topic, partition, mine)
            ]
            await asyncio.gather(*futures)
        return _sample(len(messages), start, cpu)


async def _send_partition(
    producer: AIOKafkaProducer, topic: str, partition: int, messages: Sequence[Message]
) -> list["asyncio.Future[object]"]:
    futures, batch = [], producer.create_batch()
    for message in messages:
        appended = batch.append(key=message.key, value=message.value, timestamp=None, headers=list(message.headers))
        if appended is None:  # it is full
            futures.append(await producer.send_batch(batch, topic, partition=partition))
            batch = producer.create_batch()
            batch.append(key=message.key, value=message.value, timestamp=None, headers=list(message.headers))
    futures.append(await producer.send_batch(batch, topic, partition=partition))
    return futures


async def send_and_wait(producer: AIOKafkaProducer, topic: str, messages: Sequence[Message], *, rate: float) -> Sample:
    """Median milliseconds from when a message was due until it is acknowledged, at so many a second; with `p99`.

    None waits for the one before it.
    """
    latencies: list[float] = []

    async def one(message: Message, due: float) -> None:
        await producer.send_and_wait(topic, message.value, key=message.key, headers=message.headers)
        latencies.append((time.perf_counter() - due) * 1000)

    start = time.perf_counter()
    async with asyncio.timeout(len(messages) / rate + SEND_SECONDS), asyncio.TaskGroup() as group:
        for number, message in enumerate(messages):
            due = start + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(message, due))
    return Sample(percentile(latencies, 0.5), {"p99": percentile(latencies, 0.99)})


def _sample(count: int, start: float, cpu: float) -> Sample:
    seconds, used = time.perf_counter() - start, time.process_time() - cpu
    return Sample(count / seconds, {"cpu": used / count * 1000})
