"""Projectors see nothing of a transaction that was aborted, or is still open (docs/decisions/0039)."""

from dataclasses import replace
from functools import partial
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from chassis.identifiers import new_id
from chassis.kafka.client import client_arguments
from chassis.postgres.database import Database
from chassis.settings import Kafka
from events.user_events import UserErased, UserProfileChanged, UserRegistered
from outbox.publishing.segment_rolling import ROLL_KEY
from projectors.app import serve
from projectors.operations import parked
from projectors.operations.lag import measure
from projectors.settings import ProjectorSettings
from tests.integration.projectors.conftest import running
from tests.integration.projectors.stream import FakeRecord, Publisher, new_user, record
from tests.waiting import until


async def all_is_read(settings: ProjectorSettings, database: Database, name: str) -> bool:
    return all(one.records == 0 for one in await measure(settings, database) if one.projection == name)


async def row(database: Database, query: str, *arguments: object) -> Any:
    async with database.connection() as connection:
        return await connection.fetchrow(query, *arguments)


async def places(kafka: Kafka, topic: str, key: bytes) -> list[tuple[int, int]]:
    """Partition and offset of each record with this key that a subscriber reads."""
    consumer = AIOKafkaConsumer(
        topic, **client_arguments(kafka), isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        ends = await consumer.end_offsets([*consumer.assignment()])
        found: list[tuple[int, int]] = []
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found += [(each.partition, each.offset) for each in batch if each.key == key]
        return found
    finally:
        await consumer.stop()


async def test_an_erasure_has_the_place_of_the_tombstone_that_subscribers_read(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    user = new_user()
    erasure = record(UserErased(user.id, 2))
    await publisher.publish([record(UserRegistered(user=user))])
    await publisher.publish([erasure], abort=True)
    async with running(partial(serve, settings, projections=["users"])):
        await until(lambda: row(database, "SELECT id FROM users_g1"), within=20, what="the user")
        await until(
            lambda: all_is_read(settings, database, "users"), within=20, what="the aborted erasure to be passed"
        )
        # A receipt of it would be signed, and say of whoever is here that they had read it.
        assert await row(database, "SELECT id FROM users_g1_erased") is None
        await publisher.publish([erasure])
        query = "SELECT partition, record_offset FROM users_g1_erased"
        found = await until(lambda: row(database, query), within=20, what="the erasure")
    assert [tuple(found)] == (await places(settings, publisher.topic, str(user.id).encode()))[1:]


async def test_an_entry_has_the_place_of_the_record_that_subscribers_read(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    user = new_user()
    registered = record(UserRegistered(user=user))
    await publisher.publish([registered], abort=True)
    async with running(partial(serve, settings, projections=["timeline"])):
        await until(
            lambda: all_is_read(settings, database, "timeline"), within=20, what="the aborted record to be passed"
        )
        await publisher.publish([registered])
        query = "SELECT partition, record_offset FROM timeline_g1"
        found = await until(lambda: row(database, query), within=20, what="the entry")
    assert [tuple(found)] == await places(settings, publisher.topic, str(user.id).encode())


async def test_what_was_aborted_is_not_parked_and_holds_nobody_back(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    user = new_user()
    registered = record(UserRegistered(user=user))
    maintenance = FakeRecord(ROLL_KEY, None, ())
    await publisher.publish([replace(registered, value=b"{no JSON"), maintenance], abort=True)
    async with running(partial(serve, settings, projections=["users"])):
        # What an operator has put in the place of a damaged row.
        await publisher.publish([registered])
        await until(lambda: row(database, "SELECT id FROM users_g1"), within=20, what="the user")
        await until(lambda: all_is_read(settings, database, "users"), within=20, what="everything to be read")
    assert await parked.summaries(database) == []
    assert await parked.counted(database) == []


async def test_no_checkpoint_is_inside_an_open_transaction(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    """Another version's feed would take it for a position on another log, and its refusal is for good."""
    user = new_user()
    await publisher.publish([record(UserRegistered(user=user))])
    changed = record(UserProfileChanged(user=user.model_copy(update={"version": 2}), previous={}))
    producer = AIOKafkaProducer(**client_arguments(settings), transactional_id=f"tests-{new_id()}")
    await producer.start()
    try:
        async with running(partial(serve, settings, projections=["users"])):
            await until(lambda: row(database, "SELECT id FROM users_g1"), within=20, what="the user")
            await producer.begin_transaction()
            sent = await producer.send_and_wait(
                publisher.topic, changed.value, key=changed.key, headers=list(changed.headers)
            )
            now = (await row(database, "SELECT clock_timestamp()"))[0]
            query = "SELECT position FROM checkpoints WHERE partition = $1 AND seen_until > $2"
            found = await until(
                lambda: row(database, query, sent.partition, now), within=20, what="a look after the record was there"
            )
            assert found[0] <= sent.offset
            assert found[0] == await stable_end(settings, publisher.topic, sent.partition)
            await producer.abort_transaction()
    finally:
        await producer.stop()


async def stable_end(kafka: Kafka, topic: str, partition: int) -> int:
    consumer = AIOKafkaConsumer(**client_arguments(kafka), isolation_level="read_committed")
    await consumer.start()
    try:
        [end] = (await consumer.end_offsets([TopicPartition(topic, partition)])).values()
        return int(end)
    finally:
        await consumer.stop()
