"""When records were appended, as brokers tell it: by that a reader knows its log again (docs/decisions/0042).

A broker that was set back to older disks may have grown past a reader's offset: then other records are before it. Those
were appended later than all that the reader had come past. So nothing before the offset may be younger than the newest
record that was read. Both topics have `LogAppendTime`; times are milliseconds since 1970.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import aclosing
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from chassis.kafka.client import REQUEST_SECONDS
from chassis.kafka.reading import read_to_ends

#: A transaction's marker comes within this after its records, and can be told from a record only by reading on. A
#: broker takes longer to start.
MARKER_MS: Final = 1_000


class ReadUpTo(NamedTuple):
    """How far a partition was read, and a time after which nothing of that was appended."""

    offset: int
    newest: int


Read = Mapping[TopicPartition, ReadUpTo]


async def first_since(
    consumer: AIOKafkaConsumer, moments: Mapping[TopicPartition, int]
) -> dict[TopicPartition, int | None]:
    """The offset of the first of each partition that was appended at its moment or later; None where nothing was.

    It may be that of a marker, or of what was aborted.

    Raises:
        KafkaError, TimeoutError: no answer.
    """
    async with asyncio.timeout(REQUEST_SECONDS):
        found = await consumer.offsets_for_times(dict(moments))
    return {partition: found[partition].offset if found[partition] else None for partition in moments}


async def newest_before(consumer: AIOKafkaConsumer, offsets: Mapping[TopicPartition, int]) -> int:
    """A time that nothing before these offsets was appended after; raises as `first_since`.

    It is now by our clock, or later where a broker's clock is ahead of ours.
    """
    newest, more = int(time.time() * 1000), 1_000
    while True:
        found = await first_since(consumer, dict.fromkeys(offsets, newest + 1))
        if all(first is None or first >= offsets[partition] for partition, first in found.items()):
            return newest
        newest, more = newest + more, more * 2


async def younger_before(consumer: AIOKafkaConsumer, read: Read) -> dict[TopicPartition, int]:
    """From where on there is something younger than what was read, before that place; raises as `first_since`."""
    moments = {partition: up_to.newest + 1 + MARKER_MS for partition, up_to in read.items()}
    found = await first_since(consumer, moments)
    return {each: first for each, first in found.items() if first is not None and first < read[each].offset}


async def find_younger(consumer: AIOKafkaConsumer, read: Read) -> ConsumerRecord[bytes, bytes] | None:
    """A record that was not there when this was read, before the place that was reached; None: it is the same log.

    Partitions that are in doubt are read on from there, and paused afterwards. Nothing else of the consumer changes.

    Raises:
        IllegalStateError: one of them is not the consumer's any more; KafkaError, OSError, TimeoutError: no answer.
    """
    doubtful = await younger_before(consumer, read)
    for partition, first in doubtful.items():
        consumer.seek(partition, first)
    consumer.resume(*doubtful)
    ends = {partition: read[partition].offset for partition in doubtful}
    try:
        async with aclosing(read_to_ends(consumer, ends, progress_seconds=REQUEST_SECONDS)) as reading:
            async for records in reading:
                for record in records:
                    up_to = read[TopicPartition(record.topic, record.partition)]
                    if record.offset < up_to.offset and record.timestamp > up_to.newest:
                        return record
    finally:
        consumer.pause(*doubtful)
    return None
