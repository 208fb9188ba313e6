"""Brokers that lose what they wrote: they are set back to a copy of their disks, and then grow past where they were."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from chassis.settings import Kafka, Topics
from local_stack.kafka.broker import KafkaServer
from tests.conftest import make_topics
from tests.integration.projectors.stream import FakeRecord, Publisher, lives

#: Of a log that is set back: what stays, what is lost, and what comes in its place and is longer.
KEPT, LOST, NEW = lives(10, 40, seed=1), lives(10, 40, seed=2), lives(20, 300, seed=3)
#: Records in a transaction.
AT_ONCE = 50


async def keep_disks(broker: KafkaServer, copy: Path) -> None:
    """Copy the disks of a broker that runs, in a state from which it starts."""
    await broker.stop()
    await asyncio.to_thread(shutil.copytree, broker.folder, copy)
    await broker.start()


async def set_back(broker: KafkaServer, copy: Path) -> None:
    """End a broker and give it the disks that were kept; it is to be started again."""
    await broker.kill()
    await asyncio.to_thread(shutil.rmtree, broker.folder)
    await asyncio.to_thread(shutil.move, copy, broker.folder)


@dataclass
class LosingLog:
    """A topic of a broker's own."""

    kafka: Kafka
    topics: Topics
    _broker: KafkaServer
    _copy: Path

    @classmethod
    @asynccontextmanager
    async def open(cls, folder: Path, partitions: int = 2) -> AsyncIterator[Self]:
        """Of few partitions, so that each grows past where it was."""
        async with KafkaServer(folder / "kafka", learn=False) as broker:
            kafka = Kafka.model_construct(kafka_bootstrap_servers=broker.bootstrap_servers)
            yield cls(kafka, await make_topics(kafka, partitions), broker, folder / "copy")

    async def publish(self, records: list[FakeRecord]) -> None:
        """In transactions of some records."""
        async with Publisher.open(self.kafka, self.topics.events_topic) as publisher:
            for start in range(0, len(records), AT_ONCE):
                await publisher.publish(records[start : start + AT_ONCE])

    async def keep(self) -> None:
        """What comes after this will be lost."""
        await keep_disks(self._broker, self._copy)

    async def lose_and_grow(self, first: int = AT_ONCE) -> None:
        """Lose it, and have NEW in its place, in a transaction of the `first` records, and others."""
        await set_back(self._broker, self._copy)
        await self._broker.start()
        for records in (NEW[:first], NEW[first:]):
            await self.publish(records)
