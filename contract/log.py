"""Whether today's code reads every record of a real topic: "can I deploy?".

The topic holds the living state of every user, and whatever has not been compacted away. What a projector would park,
or a subscriber's kit would not know, is found here, before the deployment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.kafka.client import REQUEST_SECONDS, answering, client_arguments, partitions_of
from chassis.kafka.reading import read_to_ends
from chassis.lifecycle import wait_at_most
from chassis.settings import Kafka
from events import Unknown, decode
from projectors.decoding.records import Poison, RecordDecoder
from projectors.projections.user_subject import USERS

#: So many unreadable records are named; the others are counted.
MOST_NAMED: Final = 20


@dataclass(slots=True)
class LogReport:
    """What was found on a topic."""

    records: int = 0
    #: Keys of the users who live.
    users: set[bytes | None] = field(default_factory=set)
    #: A sentence for each of the first records that cannot be read.
    named: list[str] = field(default_factory=list)
    unreadable: int = 0

    def read(self, record: Any) -> None:
        """Look at one record; those of a partition in their order."""
        self.records += 1
        for reason in _reasons(record):
            self.unreadable += 1
            if len(self.named) < MOST_NAMED:
                self.named.append(f"{record.topic} {record.partition}:{record.offset}: {reason}")
        if record.value is None:
            self.users.discard(record.key)
        else:
            self.users.add(record.key)

    @property
    def summary(self) -> str:
        """In a sentence."""
        found = f"{self.records:,} records, {len(self.users):,} living users"
        return f"{found}: all can be read." if not self.unreadable else f"{found}: {self.unreadable:,} are unreadable."


async def read_log(settings: Kafka, topic: str) -> LogReport:
    """Read a topic from its beginning to where it ends now.

    Raises:
        UnknownTopicOrPartitionError: there is no such topic.
        KafkaError, OSError, TimeoutError: no broker answers, or none lets us in.
    """
    partitions = [TopicPartition(topic, number) for number in range(await partitions_of(settings, topic))]
    report = LogReport()
    async with _consumer(settings) as consumer:
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        async with aclosing(read_to_ends(consumer, ends)) as reading:
            async for records in reading:
                for record in records:
                    report.read(record)
    return report


@asynccontextmanager
async def _consumer(settings: Kafka) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(
        **client_arguments(await answering(settings)), isolation_level="read_committed", enable_auto_commit=False
    )
    try:
        await wait_at_most(consumer.start(), REQUEST_SECONDS)
        yield consumer
    finally:
        await wait_at_most(consumer.stop(), REQUEST_SECONDS)


_projectors: Final = RecordDecoder(USERS)


def _reasons(record: Any) -> Iterator[str]:
    poison = _projectors.read(record)
    if isinstance(poison, Poison):
        yield f"projectors would park it: {poison.error}"
        return
    found = decode(record.key, record.headers, record.value)
    if isinstance(found, Unknown):
        yield f"the kit does not know it: {found.reason}"
