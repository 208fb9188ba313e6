"""Whether the log is still the one that was read, by its bounds and by when its records were appended.

The second is told by chassis/kafka/append_times.py; here `newest` is one time for all partitions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.kafka.append_times import Read, ReadUpTo, find_younger, younger_before
from chassis.kafka.client import REQUEST_SECONDS
from event_api.log.positions import Offsets
from event_api.log.ring import Item


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
    found = await younger_before(consumer, _read(partitions, offsets, newest))
    return bounds, {partition.partition: first for partition, first in found.items()}


def refuse_younger(records: Iterable[Item], offsets: Offsets, newest: int) -> None:
    """Raise LogGoneError where one of these records is before the offsets, and younger than what was read there."""
    for record in records:
        if record.timestamp > newest and record.offset < offsets[record.partition]:
            raise _set_back(record.partition)


async def require_same_log(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], offsets: Offsets, newest: int
) -> None:
    """Return where the log is the one that was read up to these offsets, of which nothing was younger.

    All partitions of the consumer are paused, before and after.

    Raises:
        LogGoneError: it is another, or what comes next is gone.
        KafkaError, OSError, TimeoutError: no answer.
    """
    refuse_lost(offsets, await bounds_of(consumer, partitions))
    younger = await find_younger(consumer, _read(partitions, offsets, newest))
    if younger is not None:
        raise _set_back(younger.partition)


def _read(partitions: Sequence[TopicPartition], offsets: Offsets, newest: int) -> Read:
    return {each: ReadUpTo(offset, newest) for each, offset in zip(partitions, offsets, strict=True)}


def _set_back(number: int) -> LogGoneError:
    return LogGoneError(
        f"the topic has other records before the position, in partition {number}: its brokers were set back to older"
        " disks"
    )
