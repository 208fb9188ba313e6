"""Whether a feed may resume from a checkpoint, or its generation has to be rebuilt.

Tombstones stay on the topic for `delete.retention.ms` after compaction. A member that was away for longer may have
missed one, and would keep an erased subject. It cannot have missed one if nothing was written since the checkpoint, or
only records that are younger than that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.clock import utc_now
from chassis.kafka.client import REQUEST_SECONDS
from projectors.consumer.checkpoints import Checkpoint
from read_model.generations import Generation


class TooLateError(Exception):
    """A feed cannot resume from the checkpoint: records behind it may be gone from the topic. Rebuild."""


@dataclass(frozen=True, slots=True)
class TopicLimits:
    """What the broker says of some partitions, by number."""

    ends: Mapping[int, int]
    #: The offset from which on a partition holds only records younger than `kept`; None: there are none.
    young: Mapping[int, int | None]
    #: How long tombstones stay.
    kept: timedelta


async def topic_limits(
    consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], delete_retention_ms: int
) -> TopicLimits:
    """Ask the broker.

    Raises:
        KafkaError, TimeoutError: no answer.
    """
    oldest = int(time.time() * 1000) - delete_retention_ms
    async with asyncio.timeout(REQUEST_SECONDS):
        ends = await consumer.end_offsets(partitions)
        young = await consumer.offsets_for_times(dict.fromkeys(partitions, oldest))
    return TopicLimits(
        {partition.partition: end for partition, end in ends.items()},
        {partition.partition: None if at is None else at.offset for partition, at in young.items()},
        timedelta(milliseconds=delete_retention_ms),
    )


def refuse_if_too_late(generation: Generation, found: Mapping[int, Checkpoint], limits: TopicLimits) -> None:
    """Raise TooLateError, which names the first partition that cannot be resumed and says what to do."""
    name = f"generation {generation.number} of {generation.projection}"
    remedy = f"Run `muster rebuild {generation.projection}`."
    for number, end in limits.ends.items():
        position, seen = found[number].position, found[number].seen_until
        if position > end:
            raise TooLateError(
                f"{name} has read partition {number} up to {position}, but the topic ends at {end}: it is not the topic"
                f" it was built from. {remedy}"
            )
        if position < end and _may_have_missed(seen, position, limits.young.get(number), limits.kept):
            raise TooLateError(
                f"{name} has not read partition {number} since {seen:%Y-%m-%d %H:%M}, and the topic keeps tombstones"
                f" for {limits.kept.total_seconds() / 86400:g} days: erasures may have been missed. {remedy}"
            )


def _may_have_missed(seen: datetime | None, position: int, young: int | None, kept: timedelta) -> bool:
    """Never so for a generation that has seen nothing yet: it has nobody to forget."""
    if seen is None or utc_now() - seen <= kept:
        return False
    return young is None or young > position
