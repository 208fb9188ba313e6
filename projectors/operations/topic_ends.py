"""Where topics end, and which topics they are, asked of the brokers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import InvalidPartitionsError, UnknownTopicOrPartitionError

from chassis.kafka.client import REQUEST_SECONDS, answering, client_arguments, partitions_of
from chassis.kafka.reading import read_to_ends
from chassis.kafka.topic_ids import topic_id
from chassis.lifecycle import wait_at_most
from chassis.settings import Kafka


@dataclass(frozen=True, slots=True)
class TopicEnds:
    """A topic as it is there now."""

    id: UUID
    #: Where each partition ends for read_committed readers.
    ends: Mapping[int, int]


async def look_at_topic(kafka: Kafka, topic: str, partitions: int) -> TopicEnds | None:
    """The topic of this name, so many partitions of it; None where there is none.

    Raises:
        InvalidPartitionsError: the topic has fewer partitions.
        KafkaError, OSError, TimeoutError: no broker answered.
    """
    async with _consumer(kafka) as consumer:
        identity = await wait_at_most(topic_id(consumer, topic), REQUEST_SECONDS)
        # If asked for the ends of a topic that is not there, aiokafka would look for it until the time is over.
        if identity is None:
            return None
        await _require_partitions(kafka, topic, partitions)
        wanted = [TopicPartition(topic, number) for number in range(partitions)]
        ends = await wait_at_most(consumer.end_offsets(wanted), REQUEST_SECONDS)
        return TopicEnds(identity, {partition.partition: end for partition, end in ends.items()})


async def last_records(kafka: Kafka, topic: str, places: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, int]:
    """The offset behind the last record between each of these places and the end of its partition.

    The place itself where there is none: ends of transactions and what was aborted are for no read_committed reader.

    Raises:
        KafkaError, OSError, TimeoutError: no broker answered.
    """
    found, until = {**places}, {TopicPartition(topic, number): ends[number] for number in places}
    async with _consumer(kafka) as consumer:
        consumer.assign([*until])
        for partition in until:
            consumer.seek(partition, places[partition.partition])
        async for records in read_to_ends(consumer, until):
            for record in records:
                found[record.partition] = record.offset + 1
    return found


async def topic_id_now(kafka: Kafka, topic: str) -> UUID | None:
    """Which topic this name means now; None where there is none.

    Raises:
        KafkaError, OSError, TimeoutError: no broker answered.
    """
    async with _consumer(kafka) as consumer:
        return await wait_at_most(topic_id(consumer, topic), REQUEST_SECONDS)


async def dated_ahead(kafka: Kafka, topic: str, partitions: int, time: float) -> list[int]:
    """The partitions with a record that is dated later than `time`, in seconds since 1970; none without the topic.

    Raises:
        KafkaError, OSError, TimeoutError: no broker answered.
    """
    async with _consumer(kafka) as consumer:
        if await wait_at_most(topic_id(consumer, topic), REQUEST_SECONDS) is None:
            return []
        wanted = {TopicPartition(topic, number): int(time * 1000) for number in range(partitions)}
        found = await wait_at_most(consumer.offsets_for_times(wanted), REQUEST_SECONDS)
        return sorted(partition.partition for partition, record in found.items() if record is not None)


@asynccontextmanager
async def _consumer(kafka: Kafka) -> AsyncIterator[AIOKafkaConsumer]:
    arguments = client_arguments(await answering(kafka))
    consumer = AIOKafkaConsumer(**arguments, isolation_level="read_committed", group_id=None)
    try:
        await wait_at_most(consumer.start(), REQUEST_SECONDS)
        yield consumer
    finally:
        await consumer.stop()


async def _require_partitions(kafka: Kafka, topic: str, number: int) -> None:
    """Return where the topic has so many: for one that is not there aiokafka would look until the time is over."""
    there = await partitions_of(kafka, topic)
    if there < number:
        raise InvalidPartitionsError(
            f"topic {topic} has {there} partitions and TOPIC_PARTITIONS says {number}: set it to {there}"
        )


async def require_topic(kafka: Kafka, topic: str, partitions: int) -> TopicEnds:
    """The topic of this name, so many partitions of it.

    Raises:
        UnknownTopicOrPartitionError: there is no such topic.
        TopicAuthorizationFailedError: this principal may not read it.
        KafkaError, OSError, TimeoutError: no broker answered.
    """
    found = await look_at_topic(kafka, topic, partitions)
    if found is None:
        raise UnknownTopicOrPartitionError(topic)
    return found
