"""Short, bounded reads in no consumer group: of the relay's own topic, and of the ends of partitions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from chassis.kafka.client import REQUEST_SECONDS, answering, client_arguments
from chassis.lifecycle import wait_at_most
from chassis.settings import Kafka
from outbox.settings import RelaySettings

#: The search for the newest record begins this far before the end; the step grows until a record is found. Markers
#: stand between records, and other relays may write to the same topic.
FIRST_STEP: Final = 64
#: One wait for records, in milliseconds.
_POLL_MS: Final = 200


@dataclass(frozen=True, slots=True)
class Readers:
    """Two consumers without partitions: one sees what is committed, the other all records, aborted ones included."""

    committed: AIOKafkaConsumer
    uncommitted: AIOKafkaConsumer

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: RelaySettings) -> AsyncIterator[Readers]:
        """Start both, and stop them at the end of the block.

        Raises:
            KafkaError, OSError, TimeoutError: no broker answered in time.
        """
        async with (
            _started(settings, "read_committed") as committed,
            _started(settings, "read_uncommitted") as uncommitted,
        ):
            yield cls(committed, uncommitted)


async def is_empty(kafka: Kafka, topic: str, partitions: int) -> bool:
    """Whether there is nothing to read on this topic; what was aborted, as to roll segments, is nothing.

    Raises:
        KafkaError, OSError, TimeoutError: no broker answered in time.
    """
    async with _started(kafka, "read_committed") as reader, asyncio.timeout(REQUEST_SECONDS):
        ends = await reader.end_offsets([TopicPartition(topic, number) for number in range(partitions)])
        written = [partition for partition, end in ends.items() if end]
        reader.assign(written)
        while any([await reader.position(partition) < ends[partition] for partition in written]):
            if await reader.getmany(timeout_ms=_POLL_MS, max_records=1):
                return False
    return True


@asynccontextmanager
async def _started(
    settings: Kafka, isolation_level: Literal["read_committed", "read_uncommitted"]
) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **client_arguments(await answering(settings)),
        isolation_level=isolation_level,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        await wait_at_most(consumer.start(), REQUEST_SECONDS)
        yield consumer
    finally:
        await wait_at_most(consumer.stop(), REQUEST_SECONDS)


async def newest_value(
    reader: AIOKafkaConsumer, partition: TopicPartition, key: bytes, end: int | None = None
) -> bytes | None:
    """The value of the newest record with this key that the reader can see before `end` (None: the current end)."""
    begin = (await reader.beginning_offsets([partition]))[partition]
    if end is None:
        end = (await reader.end_offsets([partition]))[partition]
    reader.assign([partition])
    step = FIRST_STEP
    while True:
        start, found = max(begin, end - step), None
        async for message in read_until(reader, partition, start, end):
            if message.key == key:
                found = message.value
        if found is not None or start == begin:
            return found
        step *= 4


async def read_until(
    reader: AIOKafkaConsumer, partition: TopicPartition, start: int, end: int
) -> AsyncIterator[ConsumerRecord]:
    """Every record from `start` to before `end`; the position tells the end, since markers take offsets too."""
    reader.seek(partition, start)
    while await reader.position(partition) < end:
        for message in (await reader.getmany(partition, timeout_ms=_POLL_MS)).get(partition, ()):
            if message.offset < end:
                yield message
