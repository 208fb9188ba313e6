"""Decides whether a feed may resume from a checkpoint, or its generation has to be rebuilt.

A position means something on one log alone. So the topic must be the one that was read, by its id; the position must
lie on it; the last record that was read must be there, unless compaction took it; and no record before the position may
be younger than all that was read, as those are that came after brokers were set back to older disks.

Tombstones stay on the topic for `delete.retention.ms` after compaction. A member that was away for longer may have
missed one, and would keep an erased subject. It cannot have missed one if nothing was written since the checkpoint, or
only records that are younger than that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from chassis.kafka.append_times import ReadUpTo, find_younger, newest_before
from chassis.kafka.client import REQUEST_SECONDS
from projectors.consumer.checkpoints import Checkpoint, LastRecord
from read_model.generations import Connection, Generation

# A partition that nothing was read of stands where its log began, nearly always at 0.
_OTHER_TOPIC: Final = """
SELECT max(topic) FILTER (WHERE position > 0) FROM checkpoints
WHERE projection = $1 AND generation = $2 HAVING NOT coalesce(bool_or(topic = $3), false)
"""


class CannotResumeError(Exception):
    """A feed cannot resume from the checkpoint; the message says why, and not what to do."""


@dataclass(frozen=True, slots=True)
class LogBounds:
    """One partition of the topic that is there now."""

    topic_id: UUID
    start: int
    #: The end for read_committed readers.
    end: int


async def log_starts(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[int, int]:
    """The offset at which each partition begins.

    Raises:
        KafkaError, TimeoutError: no answer.
    """
    async with asyncio.timeout(REQUEST_SECONDS):
        starts = await consumer.beginning_offsets(partitions)
    return {partition.partition: start for partition, start in starts.items()}


async def log_ends(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition]) -> dict[int, int]:
    """The offset at which each partition ends for read_committed readers.

    Raises:
        KafkaError, TimeoutError: no answer.
    """
    async with asyncio.timeout(REQUEST_SECONDS):
        ends = await consumer.end_offsets(partitions)
    return {partition.partition: end for partition, end in ends.items()}


async def refuse_another_topic(connection: Connection, generation: Generation, topic: str) -> None:
    """Refuse a generation that has read another topic and none of this name: what is left there would be missed.

    Raises:
        CannotResumeError: it has.
    """
    other = await connection.fetchval(_OTHER_TOPIC, generation.projection, generation.number, topic)
    if other is not None:
        raise CannotResumeError(f"it has read the topic {other}, and EVENTS_TOPIC names {topic} now")


def refuse_another_log(found: Mapping[int, Checkpoint], logs: Mapping[int, LogBounds]) -> None:
    """Raise CannotResumeError where a position is not one of this log's."""
    for number, log in logs.items():
        position, topic_id = found[number].position, found[number].topic_id
        read = f"partition {number} was read up to {position}"
        if topic_id != log.topic_id:
            raise CannotResumeError(
                f"{read} on the topic with the id {topic_id}, and the topic of that name is another now, {log.topic_id}"
            )
        if position > log.end:
            raise CannotResumeError(f"{read}, but the topic ends at {log.end}: it is not the log that was read")
        if position < log.start:
            raise CannotResumeError(f"{read}, but the topic begins at {log.start}: what was between is lost")


def refuse_another_record(last: LastRecord, record: ConsumerRecord[bytes, bytes]) -> None:
    """Raise CannotResumeError where the record at that offset is not the one that was read."""
    if record.offset == last.offset and LastRecord.of(record) != last:
        raise CannotResumeError(
            f"the record at {last.offset} of partition {record.partition} was event {last.event_id} when it was read,"
            " and is another now: it is not the log that was read"
        )


async def refuse_younger(consumer: AIOKafkaConsumer, topic: str, found: Mapping[int, Checkpoint]) -> dict[int, int]:
    """When the newest record before each checkpoint was appended, in milliseconds since 1970.

    A checkpoint that does not know it takes what is there for what was read. All of them lie on the log.

    Raises:
        CannotResumeError: a record before a checkpoint is younger.
        IllegalStateError: a partition is not the consumer's any more; KafkaError, OSError, TimeoutError: no answer.
    """
    known = {number: one.newest for number, one in found.items() if one.newest is not None}
    read = {TopicPartition(topic, number): ReadUpTo(found[number].position, at) for number, at in known.items()}
    younger = await find_younger(consumer, read) if read else None
    if younger is not None:
        number = younger.partition
        raise CannotResumeError(
            f"partition {number} was read up to {found[number].position}, and the record at {younger.offset} came there"
            " later: it is not the log that was read, its brokers were set back to older disks"
        )
    unknown = {TopicPartition(topic, number): one.position for number, one in found.items() if one.newest is None}
    adopted = await newest_before(consumer, unknown) if unknown else 0
    return {number: known.get(number, adopted) for number in found}


async def refuse_if_too_late(
    consumer: AIOKafkaConsumer,
    topic: str,
    found: Mapping[int, Checkpoint],
    logs: Mapping[int, LogBounds],
    kept: timedelta,
) -> None:
    """Refuse where tombstones, which stay for `kept`, may have been missed.

    Never for a partition of which nothing was read yet: there is nobody to forget. Where its end was never reached, it
    may have been read since the generation was made.

    Raises:
        CannotResumeError: some may have been.
        KafkaError, TimeoutError: no answer.
    """
    for number, checkpoint in found.items():
        seen, position = checkpoint.seen_until or checkpoint.begun, checkpoint.position
        if position <= logs[number].start and checkpoint.seen_until is None:
            continue
        if checkpoint.now - seen <= kept or position >= logs[number].end:
            continue
        partition = TopicPartition(topic, number)
        oldest = int((checkpoint.now - kept).timestamp() * 1000)
        async with asyncio.timeout(REQUEST_SECONDS):
            young = (await consumer.offsets_for_times({partition: oldest}))[partition]
        if young is None or young.offset > position:
            raise CannotResumeError(
                f"partition {number} was not read since {seen:%Y-%m-%d %H:%M}, and the topic keeps tombstones for"
                f" {kept.total_seconds() / 86400:g} days: erasures may have been missed"
            )
