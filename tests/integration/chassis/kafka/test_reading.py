"""A topic is read to its ends, and whoever reads it is told when no more comes; against a real broker."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from functools import partial
from typing import Any, Final
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.kafka import reading
from chassis.kafka.client import client_arguments
from chassis.kafka.reading import StalledError, read_to_ends
from chassis.settings import Kafka, Topics
from cli.events.reading import TailSettings, find
from contract.log import read_log
from tests.conftest import kafka_variables
from tests.integration.projectors.stream import Publisher, lives

#: No UUIDv7, so that everything is read.
NO_EVENT: Final = UUID(int=4)
#: Records more than there are.
BEYOND: Final = 1000


@asynccontextmanager
async def at_beginning(kafka: Kafka, topic: str, isolation: str = "read_committed") -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(**client_arguments(kafka), isolation_level=isolation, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for number in range(12)])
        await consumer.seek_to_beginning()
        yield consumer
    finally:
        await consumer.stop()


async def test_all_of_it_comes_up_to_where_it_ended(kafka: Kafka, topics: Topics) -> None:
    records = lives(8, 60, seed=1)
    async with (
        Publisher.open(kafka, topics.events_topic) as publisher,
        at_beginning(kafka, topics.events_topic) as consumer,
        at_beginning(kafka, topics.events_topic, "read_uncommitted") as anybody,
    ):
        await publisher.publish(records)
        await publisher.publish(lives(2, 2, seed=2), abort=True)
        # A committed reader may be told of an end before the last transactions.
        ends = await anybody.end_offsets(consumer.assignment())
        async with asyncio.timeout(60):
            found = [each.key async for part in read_to_ends(consumer, ends) for each in part]

    assert sorted(found) == sorted(each.key or b"" for each in records)


async def test_whoever_waits_in_vain_is_told_where(kafka: Kafka, topics: Topics) -> None:
    async with (
        Publisher.open(kafka, topics.events_topic) as publisher,
        at_beginning(kafka, topics.events_topic) as consumer,
    ):
        await publisher.publish(lives(8, 60, seed=1))
        ends = await consumer.end_offsets(consumer.assignment())
        last = TopicPartition(topics.events_topic, 7)
        ends[last] += BEYOND
        said = rf"nothing has come for 0.5 s, .*: 7 at \d+ of {ends[last]}$"
        with pytest.raises(StalledError, match=said):
            await _read(consumer, ends)


async def _read(consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]) -> None:
    async with asyncio.timeout(60), aclosing(read_to_ends(consumer, ends, progress_seconds=0.5)) as parts:
        async for _ in parts:
            pass


async def _read_log(kafka: Kafka, topic: str) -> None:
    await read_log(kafka, topic)


async def _find(kafka: Kafka, topic: str) -> None:
    told: dict[str, Any] = {**kafka_variables(kafka), "EVENTS_TOPIC": topic}
    await find(TailSettings(_env_file=None, **told), NO_EVENT)


@pytest.mark.parametrize(("module", "read"), [("contract.log", _read_log), ("cli.events.reading", _find)])
async def test_nobody_waits_for_ever_for_records_that_do_not_come(
    kafka: Kafka,
    topics: Topics,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    read: Callable[[Kafka, str], Awaitable[None]],
) -> None:
    """As when Kafka goes away after it has said where the topic ends."""
    real = AIOKafkaConsumer.end_offsets

    async def further(self: AIOKafkaConsumer, partitions: Iterable[TopicPartition]) -> Any:
        return {partition: end + BEYOND for partition, end in (await real(self, partitions)).items()}

    monkeypatch.setattr(AIOKafkaConsumer, "end_offsets", further)
    monkeypatch.setattr(f"{module}.read_to_ends", partial(reading.read_to_ends, progress_seconds=0.5))
    with pytest.raises(StalledError):
        async with asyncio.timeout(30):
            await read(kafka, topics.events_topic)
