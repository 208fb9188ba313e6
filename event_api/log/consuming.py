"""Consumers of the topic, without a group: nothing is committed, and every process reads all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final, Literal
from uuid import UUID

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError

from chassis.kafka.client import KAFKA_ERRORS, REQUEST_SECONDS, answering, client_arguments, partitions_of
from chassis.kafka.refusals import REFUSALS, start_client
from chassis.kafka.topic_ids import topic_id
from chassis.lifecycle import wait_at_most
from chassis.settings import Kafka
from event_api.log.ring import Item

#: Errors that say the topic cannot be read now.
AWAY: Final[tuple[type[Exception], ...]] = (*KAFKA_ERRORS, *REFUSALS)
#: The broker holds an answer back for so long while there is nothing new: we hear of it twice a second.
FETCH_WAIT_MS: Final = 500
#: One partition gives so much at a time: some hundred records, which are unpacked in milliseconds.
PARTITION_BYTES: Final = 128 * 1024
#: A topic that was made again, or a broker that moved, is noticed within this.
METADATA_MAX_AGE_MS: Final = 5_000
#: Closing is a matter of sockets; a broker that hangs is not waited for.
STOP_SECONDS: Final = 5.0

Isolation = Literal["read_committed", "read_uncommitted"]
Wrap = Callable[[ConsumerRecord[bytes, bytes]], Item]


class LogAwayError(Exception):
    """The topic cannot be read now; the message says why."""


@asynccontextmanager
async def open_consumer(
    kafka: Kafka, topic: str, *, wait_ms: int = FETCH_WAIT_MS, isolation: Isolation = "read_committed"
) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
    """A consumer of all partitions, each of which is to be sought to before anything is read.

    Raises:
        UnknownTopicOrPartitionError: there is no such topic.
        KafkaError, KafkaRefusedError, OSError, TimeoutError: no broker answered, or none lets us in.
    """
    # The consumer itself would only be silent about a topic that is not there.
    count = await partitions_of(kafka, topic)
    partitions = [TopicPartition(topic, number) for number in range(count)]
    arguments = client_arguments(await answering(kafka))
    consumer = AIOKafkaConsumer(
        **arguments,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level=isolation,
        fetch_max_wait_ms=wait_ms,
        max_partition_fetch_bytes=PARTITION_BYTES,
        metadata_max_age_ms=METADATA_MAX_AGE_MS,
    )
    try:
        await start_client(consumer, arguments, REQUEST_SECONDS)
        consumer.assign(partitions)
        # Nothing is fetched before somebody has said from where.
        consumer.pause(*partitions)
        yield consumer, partitions
    finally:
        await _stop(consumer)


async def _stop(consumer: AIOKafkaConsumer) -> None:
    """Close it, whatever becomes of that; a broker that hangs is not waited for.

    Of a broker that was away, aiokafka's stop() lets out the cancellation of a task of its own, which would be taken
    for ours, and leaves the connections open. So it is not awaited, and the connections are closed in any case.
    """
    stopping = asyncio.ensure_future(consumer.stop())
    await asyncio.wait({stopping}, timeout=STOP_SECONDS)
    stopping.cancel()
    await wait_at_most(consumer._client.close(), STOP_SECONDS)  # noqa: SLF001 - not public, and idempotent
    if stopping.done() and not stopping.cancelled():
        stopping.result()


async def identity(consumer: AIOKafkaConsumer, topic: str) -> UUID:
    """The id of the topic of that name now.

    Raises:
        UnknownTopicOrPartitionError: there is none; or as `open_consumer`.
    """
    async with asyncio.timeout(REQUEST_SECONDS):
        found = await topic_id(consumer, topic)
    if found is None:
        raise UnknownTopicOrPartitionError(topic)
    return found


def position_of(consumer: AIOKafkaConsumer, partition: TopicPartition) -> int:
    """The offset of a partition that the consumer gives out next."""
    # Not public without an await, in which others would come between the records and this.
    state = consumer._subscription.subscription.assignment.state_value(partition)  # noqa: SLF001 - as said
    return int(state.position)
