"""PostgreSQL says "later" to any statement of a batch: nothing is written or parked, and it goes in after that."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pytest
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.identifiers import new_id
from chassis.kafka.client import client_arguments
from chassis.postgres.database import Database
from chassis.settings import Kafka, PostgresAddress
from events.user_events import UserErased, UserRegistered
from projectors.app import open_database
from projectors.consumer import checkpoints, parking
from projectors.consumer.assignment import Assignment
from projectors.consumer.batches import BatchWriter, DecodedBatch
from projectors.consumer.checkpoints import Move
from projectors.consumer.loop import Loop
from projectors.consumer.resumption import CannotResumeError
from projectors.consumer.writing import DATABASE_ERRORS, Writing
from projectors.decoding.records import DecodedEvent, Poison, RecordDecoder
from projectors.projections.catalogue import PROJECTIONS
from projectors.projections.user_subject import USERS
from projectors.settings import ProjectorSettings
from read_model import generations
from read_model.generations import Generation
from tests.integration.projectors.consumer.test_suspicious import HUGE, from_elsewhere, state
from tests.integration.projectors.stream import FakeRecord, new_user, record
from tests.servers.refusing_proxy import PREPARING, RefusingProxy, refuse_all

TOPIC = "users.events"


@dataclass(frozen=True)
class Kind:
    """A batch, what was done to the database before, and what it leaves: rows, parked and counted records."""

    records: Callable[[], Sequence[FakeRecord]]
    leaves: tuple[int, int, int]
    before: str = "SELECT 1"


def registration() -> FakeRecord:
    return record(UserRegistered(user=new_user()))


def mixed() -> list[FakeRecord]:
    return [registration(), record(UserErased(new_id(), 2)), replace(registration(), value=b"{")]


def judged() -> list[FakeRecord]:
    ann = new_user()
    return [record(UserRegistered(user=ann)), state(ann, HUGE)]


LIVE, MIXED = Kind(lambda: [registration()], (1, 0, 0)), Kind(mixed, (1, 1, 0))
CASES = [
    pytest.param(name, kind, id=f"{name} {what}")
    for name, what, kind in [
        *((name, "live", LIVE) for name in PROJECTIONS),
        *((name, "with an erasure and poison", MIXED) for name in PROJECTIONS),
        ("users", "judged", Kind(judged, (1, 1, 0))),
        ("users", "repaired", replace(LIVE, before=f"UPDATE checkpoints SET repaired_until = {HUGE}")),
        ("users", "a flood", Kind(lambda: [from_elsewhere(registration())], (0, 0, 1))),
    ]
]


@pytest.fixture
async def proxy(query_database: PostgresAddress) -> AsyncIterator[RefusingProxy]:
    """Before one connection, which is a new one after each refusal."""
    one = replace(query_database, pool_size=1, max_overflow=0)
    async with RefusingProxy(one, PREPARING).listening() as proxy:
        yield proxy


@pytest.mark.parametrize(("name", "kind"), CASES)
async def test_whatever_means_later_at_whichever_statement_is_tried_again(
    proxy: RefusingProxy, database: Database, monkeypatch: pytest.MonkeyPatch, name: str, kind: Kind
) -> None:
    monkeypatch.setattr(parking, "SUSPICIOUS_RECORDS", 0 if kind.leaves[2] else 1)
    items = read(kind.records())
    batch = DecodedBatch(items, [Move(0, 0, len(items), None)])
    async with open_database(proxy.address, application="test") as proxied:
        async with database.connection() as connection:
            generation = await generations.serving(connection, name)
            await checkpoints.read(connection, generation, TOPIC, {0: 0}, UUID(int=7))
            await connection.execute(kind.before)

        async def attempt() -> None:
            # A new one, since what it has met is remembered.
            writer = BatchWriter(proxied, PROJECTIONS[name], generation, TOPIC)
            try:
                await writer.write(batch)
            except DATABASE_ERRORS:
                assert await written(database, name) == (0, 0, 0, 0)

        assert await refuse_all(proxy, attempt) > 0
    assert await written(database, name) == (len(items), *kind.leaves)


def read(records: Sequence[FakeRecord]) -> list[DecodedEvent | Poison]:
    decoder = RecordDecoder(USERS)
    return [decoder.read(replace(one, partition=0, offset=number)) for number, one in enumerate(records)]


async def written(database: Database, name: str) -> tuple[int, int, int, int]:
    """The checkpoint, how many live people it shows, and how many records are parked and counted."""
    table = {"users": "users_g1", "timeline": "timeline_g1", "signups": "signups_g1_users WHERE day IS NOT NULL"}[name]
    async with database.connection() as connection:
        row = await connection.fetchrow(
            f"SELECT (SELECT position FROM checkpoints WHERE projection = $1), (SELECT count(*) FROM {table}),"
            " (SELECT count(*) FROM parked_records), (SELECT coalesce(sum(records), 0)::int FROM counted_records)",
            name,
        )
    assert row is not None
    return tuple(row)


class Place:
    """A loop of the real topic, of which each deed can be tried by itself."""

    def __init__(self, settings: ProjectorSettings, database: Database, consumer: AIOKafkaConsumer) -> None:
        topic, log, labels = settings.events_topic, structlog.get_logger(), ("users", "1")
        self.assignment = Assignment(topic, labels, log)
        self.partition, self.consumer = TopicPartition(topic, 0), consumer
        self.stopping = asyncio.Event()
        self.stopping.set()  # nothing is waited for
        users = PROJECTIONS["users"]
        self.generation = Generation("users", 1, users.shape, "serving")
        writer = BatchWriter(database, users, self.generation, topic)
        writing = Writing(writer, self.assignment, labels, self.stopping, log)
        self.loop = Loop(
            settings.feed, database, users, self.generation,
            assignment=self.assignment, writing=writing, stopping=self.stopping, log=log,
        )  # fmt: skip


@pytest.fixture
async def consumer(kafka: Kafka, settings: ProjectorSettings) -> AsyncIterator[AIOKafkaConsumer]:
    # What is asked of a broker waits for its answer to the fetch before, which waits for records.
    consumer = AIOKafkaConsumer(**client_arguments(kafka), enable_auto_commit=False, fetch_max_wait_ms=10)
    await consumer.start()
    consumer.assign([TopicPartition(settings.events_topic, 0)])
    yield consumer
    await consumer.stop()


async def test_a_partition_is_placed_by_the_next_try(
    settings: ProjectorSettings, database: Database, proxy: RefusingProxy, consumer: AIOKafkaConsumer
) -> None:
    async with open_database(proxy.address, application="test") as proxied:
        place = Place(settings, proxied, consumer)
        tried = 0

        async def attempt() -> None:
            nonlocal tried
            tried += 1
            async with database.connection() as connection:
                await connection.execute("DELETE FROM checkpoints")
            place.assignment.assigned({place.partition})
            try:
                assert await place.loop._place(consumer)
            except DATABASE_ERRORS:
                assert place.assignment.unplaced == {place.partition}

        assert await refuse_all(proxy, attempt) >= 4
        assert not place.assignment.unplaced
        assert tried > 4 * 13


@pytest.mark.parametrize("deed", ["watch", "refuse"])
async def test_a_look_and_a_refusal_are_tried_again(
    settings: ProjectorSettings, database: Database, proxy: RefusingProxy, consumer: AIOKafkaConsumer, deed: str
) -> None:
    del database
    async with open_database(proxy.address, application="test") as proxied:
        place = Place(settings, proxied, consumer)

        async def watch() -> None:
            place.loop._watched = 0.0
            try:
                await place.loop._watch(consumer)
            except DATABASE_ERRORS:
                assert place.loop._watched == 0.0

        async def refuse() -> None:
            place.loop._doubted = asyncio.get_running_loop().time()
            await place.loop._refuse(CannotResumeError("it is another log"))
            refused.append(place.loop.generation.refusal)

        refused: list[Any] = []
        deeds: dict[str, Callable[[], Awaitable[None]]] = {"watch": watch, "refuse": refuse}
        assert await refuse_all(proxy, deeds[deed]) >= 1
        if deed == "watch":
            assert place.loop._watched > 0
        else:
            assert refused == [None] * (len(refused) - 1) + ["it is another log"], "only once it is stored"
