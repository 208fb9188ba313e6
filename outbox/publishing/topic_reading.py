"""Reading the relay's own topic and the ends of partitions: short, bounded, in no consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from chassis.kafka.client import REQUEST_SECONDS, client_arguments
from outbox.settings import RelaySettings

#: How far before the end the search for the newest record begins; it grows until a record is found. Every record is
#: followed by its transaction's marker, and other installations may write to the same topic.
FIRST_STEP: Final = 64
#: One wait for records, in milliseconds.
_POLL_MS: Final = 200


@dataclass(frozen=True, slots=True)
class Readers:
    """Two consumers of nothing yet: one sees what is committed, the other everything, aborted records included."""

    committed: AIOKafkaConsumer
    everything: AIOKafkaConsumer

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: RelaySettings) -> AsyncIterator[Readers]:
        """Start both; they are stopped at the end.

        Raises:
            KafkaError, OSError, TimeoutError: no broker answered in time.
        """
        async with (
            _started(settings, "read_committed") as committed,
            _started(settings, "read_uncommitted") as everything,
        ):
            yield cls(committed, everything)


@asynccontextmanager
async def _started(
    settings: RelaySettings, isolation_level: Literal["read_committed", "read_uncommitted"]
) -> AsyncIterator[AIOKafkaConsumer]:
    made = AIOKafkaConsumer(
        **client_arguments(settings),
        isolation_level=isolation_level,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        await asyncio.wait_for(made.start(), REQUEST_SECONDS)
        yield made
    finally:
        await asyncio.wait_for(made.stop(), REQUEST_SECONDS)


async def newest_between(
    reader: AIOKafkaConsumer, partition: TopicPartition, key: bytes, end: int | None = None
) -> bytes | None:
    """The value of the newest record with this key that the reader can see before `end` (None: the end as it is)."""
    begin = (await reader.beginning_offsets([partition]))[partition]
    if end is None:
        end = (await reader.end_offsets([partition]))[partition]
    reader.assign([partition])
    step = FIRST_STEP
    while True:
        start, found = max(begin, end - step), None
        async for message in read_to(reader, partition, start, end):
            if message.key == key:
                found = message.value
        if found is not None or start == begin:
            return found
        step *= 4


async def read_to(
    reader: AIOKafkaConsumer, partition: TopicPartition, start: int, end: int
) -> AsyncIterator[ConsumerRecord]:
    """Every record from `start` to before `end`; ends are judged by position, since markers take offsets too."""
    reader.seek(partition, start)
    while await reader.position(partition) < end:
        for message in (await reader.getmany(partition, timeout_ms=_POLL_MS)).get(partition, ()):
            if message.offset < end:
                yield message
