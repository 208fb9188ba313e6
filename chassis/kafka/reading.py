"""Reading a topic up to where it ends, by whoever reads all of it once; never without an end, and never in silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

#: A broker that lives brings more within milliseconds; one that restarts is back within this.
PROGRESS_SECONDS: Final = 30.0
#: One fetch waits for records for so long; then it is looked whether the end has come without one.
FETCH_MS: Final = 500

Records = list[ConsumerRecord[bytes, bytes]]


class StalledError(TimeoutError):
    """Records are there, and none have come for a while: the brokers are away, or keep them back."""


async def read_to_ends(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int], *, progress_seconds: float = PROGRESS_SECONDS
) -> AsyncGenerator[Records, None]:
    """The records of each of these partitions from where the consumer is up to its end, and maybe a few behind it.

    Raises:
        StalledError: no partition got further for `progress_seconds`.
        KafkaError, OSError: the brokers do not let us read.
    """
    clock = asyncio.get_running_loop().time
    before: Mapping[TopicPartition, int] = {}
    moved = clock()
    while True:
        now = await _positions(consumer, ends, progress_seconds)
        left = [partition for partition, end in ends.items() if now[partition] < end]
        if not left:
            return
        if now != before:
            before, moved = now, clock()
        elif clock() - moved > progress_seconds:
            raise _stalled(left, now, ends, progress_seconds)
        for records in (await consumer.getmany(*left, timeout_ms=FETCH_MS)).values():
            yield records


async def _positions(
    consumer: AIOKafkaConsumer, ends: Mapping[TopicPartition, int], seconds: float
) -> dict[TopicPartition, int]:
    try:
        # A position that the brokers have to be asked for is waited for without a limit.
        async with asyncio.timeout(seconds):
            return {partition: await consumer.position(partition) for partition in ends}
    except TimeoutError as error:
        raise StalledError(f"the brokers have not said for {seconds:g} s where to read on") from error


def _stalled(
    left: list[TopicPartition], now: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int], seconds: float
) -> StalledError:
    where = ", ".join(f"{each.partition} at {now[each]} of {ends[each]}" for each in left)
    return StalledError(f"nothing has come for {seconds:g} s, and these partitions are not at their ends: {where}")
