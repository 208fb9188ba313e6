"""Whether the log is still the one that was read, by its bounds and by when its records were appended.

A broker that was set back to older disks may have grown past a reader's offsets: then other records are before them.
Those were appended later than all that the reader had come past. So who keeps the time of the newest record, beside the
offsets, knows the log again: nothing before the offsets is younger (docs/decisions/0042). Brokers tell the times.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.kafka.client import REQUEST_SECONDS
from chassis.kafka.reading import read_to_ends
from event_api.log.positions import Offsets
from event_api.log.ring import Item

#: A transaction's marker comes within this after its records, and can be told from a record only by reading on. A
#: broker takes longer to start.
MARKER_MS: Final = 1_000


class LogGoneError(Exception):
    """The next records of a reader are not on the topic any more; the message says why."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The offsets at which each partition of the topic begins, and ends for read_committed readers."""

    starts: Offsets
    ends: Offsets


async def bounds_of(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> Bounds:
    """Where each partition begins and ends now."""
    async with asyncio.timeout(REQUEST_SECONDS):
        starts, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    return Bounds(tuple(starts[each] for each in partitions), tuple(ends[each] for each in partitions))


async def first_since(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], moment: int
) -> tuple[int | None, ...]:
    """The offset of the first of each partition that was appended then or later, in milliseconds since 1970.

    It may be that of a marker, or of what was aborted.
    """
    async with asyncio.timeout(REQUEST_SECONDS):
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, moment))
    return tuple(found[each].offset if found[each] else None for each in partitions)


async def newest_before(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], offsets: Offsets) -> int:
    """A time, in milliseconds since 1970, that nothing before these offsets was appended after.

    It is now by our clock, or later where a broker's clock is ahead of ours.
    """
    newest, more = int(time.time() * 1000), 1_000
    while True:
        found = await first_since(consumer, partitions, newest + 1)
        if all(first is None or first >= offset for first, offset in zip(found, offsets, strict=True)):
            return newest
        newest, more = newest + more, more * 2


def refuse_lost(offsets: Offsets, bounds: Bounds) -> None:
    """Raise LogGoneError where the topic does not have all that comes after these offsets."""
    for number, offset in enumerate(offsets):
        if offset > bounds.ends[number]:
            raise LogGoneError(f"the topic ends before the position, in partition {number}: it is not the one it was")
        if offset < bounds.starts[number]:
            raise LogGoneError(f"the topic begins after the position, in partition {number}: records are gone")


async def examine(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], offsets: Offsets, newest: int
) -> tuple[Bounds, dict[int, int]]:
    """The bounds of the log; and by partition, from where on something younger than `newest` is before these offsets.

    Raises:
        LogGoneError: the log does not have all that comes after the offsets.
        KafkaError, OSError, TimeoutError: no answer.
    """
    bounds = await bounds_of(consumer, partitions)
    refuse_lost(offsets, bounds)
    found = await first_since(consumer, partitions, newest + 1 + MARKER_MS)
    pairs = enumerate(zip(found, offsets, strict=True))
    return bounds, {number: first for number, (first, offset) in pairs if first is not None and first < offset}


def refuse_younger(records: Iterable[Item], offsets: Offsets, newest: int) -> None:
    """Raise LogGoneError where one of these records is before the offsets, and younger than what was read there."""
    for record in records:
        if record.timestamp > newest and record.offset < offsets[record.partition]:
            raise LogGoneError(
                f"the topic has other records before the position, in partition {record.partition}:"
                " its brokers were set back to older disks"
            )


async def require_same_log(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], offsets: Offsets, newest: int
) -> None:
    """Return where the log is the one that was read up to these offsets, of which nothing was younger.

    All partitions of the consumer are paused, before and after.

    Raises:
        LogGoneError: it is another, or what comes next is gone.
        KafkaError, OSError, TimeoutError: no answer.
    """
    _, doubtful = await examine(consumer, partitions, offsets, newest)
    for number, first in doubtful.items():
        consumer.seek(partitions[number], first)
    ends = {partitions[number]: offsets[number] for number in doubtful}
    consumer.resume(*ends)
    try:
        async with aclosing(read_to_ends(consumer, ends, progress_seconds=REQUEST_SECONDS)) as reading:
            async for records in reading:
                refuse_younger(records, offsets, newest)
    finally:
        consumer.pause(*ends)
