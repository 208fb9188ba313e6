"""Settling what a predecessor left in doubt: in Kafka, but perhaps not yet deleted from the outbox.

At most one batch ever is: the next transaction begins only after the last one's rows are deleted. Once a new producer
has fenced the old one its transaction is either committed or aborted, and the newest readable record tells which.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.kafka import REQUEST_SECONDS, client_arguments
from outbox.record import decode, in_doubt
from outbox.settings import RelaySettings
from outbox.work_list import WorkList

log = structlog.get_logger("outbox.settlement")

#: How far before the end the search for the newest record begins; it doubles until a record is found. Every record is
#: followed by its transaction's marker, and other installations may write to the same topic.
FIRST_STEP: Final = 64
#: Another installation's open transaction can hold this topic's readers back until it times out.
READ_SECONDS: Final = 30.0
#: One wait for records, in milliseconds.
_POLL_MS: Final = 200


async def settle(work_list: WorkList, settings: RelaySettings) -> int:
    """Delete the last published batch from the outbox if it is still there.

    Call it only with the leadership held and the new publisher open.

    Returns:
        How many rows were deleted.

    Raises:
        RelayStopError: record and outbox do not belong together.
        KafkaError, OSError, TimeoutError: the record could not be read.
    """
    value = await newest_record(settings)
    if value is None:
        return 0
    record = decode(value)
    identity = await work_list.identity()
    published = in_doubt(record, await work_list.find(record.ids), identity)
    if published:
        await work_list.delete(published)
        log.info("relay.settled", events=len(published), first=published[0], last=published[-1])
    return len(published)


async def newest_record(settings: RelaySettings) -> bytes | None:
    """The newest committed record of this relay, or None where it has never published.

    Raises:
        KafkaError, OSError, TimeoutError: the topic could not be read to its end.
    """
    partition = TopicPartition(settings.relay_topic, 0)
    async with asyncio.timeout(READ_SECONDS):
        # Only an uncommitted reader is told the true end; a committed one sees the end before open transactions.
        async with _consumer(settings, "read_uncommitted") as reader:
            begin = (await reader.beginning_offsets([partition]))[partition]
            end = (await reader.end_offsets([partition]))[partition]
        async with _consumer(settings, "read_committed") as reader:
            reader.assign([partition])
            step = FIRST_STEP
            while True:
                start = max(begin, end - step)
                found = await _last_between(reader, partition, start, end, settings.relay_name.encode())
                if found is not None or start == begin:
                    return found
                step *= 4


async def _last_between(
    reader: AIOKafkaConsumer, partition: TopicPartition, start: int, end: int, key: bytes
) -> bytes | None:
    reader.seek(partition, start)
    found: bytes | None = None
    while await reader.position(partition) < end:
        batches = await reader.getmany(partition, timeout_ms=_POLL_MS)
        for message in batches.get(partition, ()):
            if message.key == key and message.offset < end:
                found = message.value
    return found


@asynccontextmanager
async def _consumer(settings: RelaySettings, isolation_level: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **client_arguments(settings),
        isolation_level=isolation_level,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        await asyncio.wait_for(consumer.start(), REQUEST_SECONDS)
        yield consumer
    finally:
        await asyncio.wait_for(consumer.stop(), REQUEST_SECONDS)
