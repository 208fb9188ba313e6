"""Reads the topic for `muster events`, as a subscriber does: read_committed, in no group, nothing committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta
from typing import Final, Literal
from uuid import UUID

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from chassis.identifiers import time_in
from chassis.kafka.client import REQUEST_SECONDS, answering, client_arguments, partitions_of
from chassis.kafka.reading import read_to_ends
from chassis.lifecycle import wait_at_most
from chassis.settings import Kafka, Topics

#: The first record that is there, the next one that comes, or the first that was published at a time, in milliseconds
#: since 1970.
Beginning = Literal["beginning", "now"] | int

#: UUIDs of this version tell when they were made.
_WITH_TIME: Final = 7
#: The clock of a command API may be ahead of the broker's by so much.
_CLOCKS_DIFFER: Final = timedelta(hours=1)


class TailSettings(Kafka, Topics):
    """The settings of this command."""


@asynccontextmanager
async def following(settings: TailSettings, beginning: Beginning) -> AsyncIterator[AIOKafkaConsumer]:
    """Open a read_committed consumer of every partition, in no group, at that place.

    Raises:
        UnknownTopicOrPartitionError, TopicAuthorizationFailedError: there is no such topic, or we may not read it.
        KafkaError, OSError, TimeoutError: no broker answered in time.
    """
    count = await partitions_of(settings, settings.events_topic)
    consumer = AIOKafkaConsumer(
        **client_arguments(await answering(settings)), isolation_level="read_committed", enable_auto_commit=False
    )
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            await consumer.start()
            partitions = [TopicPartition(settings.events_topic, number) for number in range(count)]
            consumer.assign(partitions)
            await _seek(consumer, partitions, beginning)
            for partition in partitions:
                await consumer.position(partition)
        yield consumer
    finally:
        await wait_at_most(consumer.stop(), REQUEST_SECONDS)


async def find(settings: TailSettings, event_id: UUID) -> ConsumerRecord | None:
    """The first record with this id among its headers, of those that are on the topic now; None if there is none.

    Raises:
        As `following`.
    """
    wanted = ("ce_id", str(event_id).encode())
    # No event is published before it was made.
    margin = int(_CLOCKS_DIFFER.total_seconds() * 1000)
    beginning: Beginning = max(0, time_in(event_id) - margin) if event_id.version == _WITH_TIME else "beginning"
    async with following(settings, beginning) as consumer:
        partitions = list(consumer.assignment())
        ends = await wait_at_most(consumer.end_offsets(partitions), REQUEST_SECONDS)
        async with aclosing(read_to_ends(consumer, ends)) as reading:
            async for records in reading:
                for record in records:
                    if wanted in record.headers:
                        return record
    return None


async def _seek(consumer: AIOKafkaConsumer, partitions: Sequence[TopicPartition], beginning: Beginning) -> None:
    if beginning == "now":
        await consumer.seek_to_end(*partitions)
    elif beginning == "beginning":
        await consumer.seek_to_beginning(*partitions)
    else:
        # Asked for first: a record that comes in between is of that time, and behind these ends.
        ends = await consumer.end_offsets(partitions)
        found = await consumer.offsets_for_times(dict.fromkeys(partitions, beginning))
        for partition, place in found.items():
            consumer.seek(partition, ends[partition] if place is None else place.offset)
