"""One change as two versions of its event, through the real outbox, relay, Kafka, projectors, event API and kit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.identifiers import new_id
from chassis.kafka.client import client_arguments
from chassis.postgres.database import Connection, Database, connect
from chassis.settings import Kafka, PostgresAddress, Topics
from event_api.app import create_app
from events import Decoded, Unknown, UserEvent, bootstrap
from events.catalogue import EventData
from events.envelope import Envelope
from events.user_events import PublicUser, UserEmailChanged, UserRegistered
from outbox.headers import encode_headers
from projectors.decoding.subject import Subject
from projectors.fleet import Fleet
from projectors.operations import parked
from projectors.projections.catalogue import PROJECTIONS
from projectors.projections.user_subject import USERS
from tests.event_streams import streamed, up_to
from tests.integration.event_api.conftest import client_of
from tests.integration.event_api.conftest import make_settings as event_api_settings
from tests.integration.outbox.relaying import relaying, settings_for
from tests.integration.outbox.traffic import APPEND
from tests.integration.projectors.conftest import make_settings, running
from tests.integration.projectors.stream import new_user
from tests.integration.query_api.real_server import served
from tests.integration.subjects.second_version import EmailChanged2, planted
from tests.waiting import until

CATALOGUE: Final = planted(UserEmailChanged, EmailChanged2)
SUBJECT: Final = Subject(CATALOGUE, topic=USERS.topic, snapshot=USERS.snapshot)
NAMES: Final = ("users", "timeline")


@pytest.fixture
async def command(command_database: PostgresAddress) -> AsyncIterator[Connection]:
    connection = await connect(command_database, application="tests")
    yield connection
    await connection.close()


@pytest.fixture
async def query(query_database: PostgresAddress, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    """The query database of projectors that know the second version."""
    for name in NAMES:
        monkeypatch.setitem(PROJECTIONS, name, replace(PROJECTIONS[name], subject=SUBJECT))
    async with Database.open(query_database, application="tests") as database:
        yield database


async def _append(connection: Connection, user: PublicUser, *events: EventData) -> None:
    """Every event of one change, in one transaction."""
    async with connection.transaction():
        for event in events:
            envelope = Envelope(
                event_id=new_id(), source=CATALOGUE.source, type=event.type(), subject_id=user.id,
                version=user.version, time=datetime.now(UTC), correlation_id="test", causation_id="test",
            )  # fmt: skip
            value = CATALOGUE.encode(event)
            await connection.fetchval(APPEND, envelope.event_id, user.id, value, encode_headers(envelope))


async def test_each_reader_sees_the_change_once_whichever_version_it_knows(  # noqa: PLR0917 - fixtures
    kafka: Kafka,
    topics: Topics,
    command_database: PostgresAddress,
    query_database: PostgresAddress,
    command: Connection,
    query: Database,
) -> None:
    before = new_user()
    after = before.model_copy(update={"email": "new@example.com", "version": 2})
    previous = {"email": before.email}
    relay_settings = settings_for(command_database, kafka, topics, relay_name=topics.events_topic)
    fleet = Fleet(make_settings(kafka, topics, query_database), query, list(NAMES))
    async with relaying(relay_settings), running(fleet.run):
        await _append(command, before, UserRegistered(user=before))
        newer = EmailChanged2(user=after, previous=previous, proof="mail")
        await _append(command, after, newer, UserEmailChanged(user=after, previous=previous))

        async def projected() -> bool:
            async with query.connection() as connection:
                version = await connection.fetchval("SELECT version FROM users_g1 WHERE id = $1", after.id)
                entries = await connection.fetchval("SELECT count(*) FROM timeline_g1 WHERE user_id = $1", after.id)
            return bool(version == 2 and entries == 2)

        await until(projected, within=60, what="the change in both read tables")
        with served(create_app(event_api_settings(kafka, topics))) as url:
            async with client_of(url) as client, streamed(client, {"from": "beginning"}) as stream:
                told = await up_to(aiter(stream), "caught-up")
        items = await _bootstrapped(kafka, topics.events_topic)

    assert await parked.summaries(query) == []
    assert [(each.type.rpartition(".")[2], each.json["version"]) for each in told] == [("v1", 1), ("v2", 2), ("v1", 2)]
    registered, unknown, changed = items
    assert isinstance(unknown, Unknown)
    assert "is newer than this Muster knows" in unknown.reason
    assert isinstance(registered, UserEvent)
    assert isinstance(changed, UserEvent)
    assert [registered.version, changed.version] == [1, 2]
    assert changed.user.email == after.email


async def _bootstrapped(kafka: Kafka, topic: str) -> list[Decoded]:
    """What today's kit, which does not know the second version, reads of all of it."""
    consumer = AIOKafkaConsumer(
        **client_arguments(kafka), isolation_level="read_committed", auto_offset_reset="none", enable_auto_commit=False
    )
    items: list[Decoded] = []
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, number) for number in range(12)])
        async with asyncio.timeout(60), aclosing(bootstrap(consumer)) as reading:
            async for batch in reading:
                items += batch.items
                if batch.as_of:
                    break
    finally:
        await consumer.stop()
    return items
