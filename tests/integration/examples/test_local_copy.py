"""The example that keeps a copy of the users, killed again and again, and its verification."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from muster_events import Batch, Difference, Erased, User, UserEvent

from chassis.kafka.client import admin, delete_topic, ensure_topics
from chassis.settings import Kafka, Topics
from events.user_events import UserRegistered
from examples.local_copy import Copy
from local_stack.kafka.broker import KafkaServer
from outbox.topics import wanted_topics
from tests.conftest import kafka_variables, make_topics
from tests.integration.examples.processes import rows, running, variables
from tests.integration.projectors.stream import START, FakeRecord, Publisher, lives, record
from tests.integration.query_api.read_side import ReadSide, person
from tests.waiting import until

USERS = "SELECT id, version FROM users"
ENDS = (60, 120, 200)


def _living(records: list[FakeRecord]) -> dict[str, int]:
    versions: dict[str, int] = {}
    for item in records:
        user_id = (item.key or b"").decode()
        versions[user_id] = int(dict(item.headers)["ce_sequence"] or b"")
        if item.value is None:
            del versions[user_id]
    return versions


async def test_the_copy_is_complete_whatever_is_killed(
    kafka: Kafka, topics: Topics, publisher: Publisher, tmp_path: Path
) -> None:
    file, records = tmp_path / "copy.sqlite", lives(40, 160, seed=12)
    told = variables(kafka, topics, LOCAL_COPY_FILE=str(file))
    for first, end in zip((0, *ENDS), ENDS, strict=False):
        async with running("examples.local_copy", environment=told):
            await publisher.publish(records[first:end])

            async def complete(published: int = end) -> bool:
                return dict(rows(file, USERS)) == _living(records[:published])

            await until(complete, within=60, what="the copy to be complete")


async def test_the_copy_comes_back_to_brokers_that_were_away(server_folder: Path, tmp_path: Path) -> None:
    file, words, records = tmp_path / "copy.sqlite", tmp_path / "words.txt", lives(10, 40, seed=12)
    async with KafkaServer(server_folder / "kafka", learn=False) as server:
        brokers = Kafka.model_construct(kafka_bootstrap_servers=server.bootstrap_servers)
        topics = await make_topics(brokers)
        async with Publisher.open(brokers, topics.events_topic) as publisher:
            await publisher.publish(records)
        await server.kill()
        told = variables(brokers, topics, LOCAL_COPY_FILE=str(file))
        async with running("examples.local_copy", environment=told, err=words):

            async def said() -> bool:
                return words.exists() and words.read_text().count("coming back in a second") > 1

            async def complete() -> bool:
                return dict(rows(file, USERS)) == _living(records)

            await until(said, within=60, what="the copy to say that it cannot reach the brokers")
            await server.start()
            await until(complete, within=60, what="the copy to be complete")


@pytest.fixture
def to_the_brokers(kafka: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tell this process what the example is told."""
    for name, value in kafka_variables(kafka).items():
        monkeypatch.setenv(name, value)


async def test_the_verification_names_who_differs(
    to_the_brokers: None, topics: Topics, publisher: Publisher, api: httpx.AsyncClient, read_side: ReadSide
) -> None:
    async def see(_: httpx.Request) -> None:
        await read_side.see(datetime.now(UTC))

    api.event_hooks = {"request": [see]}
    people = [person(number) for number in range(20)]
    await read_side.register(*people)
    await publisher.publish([record(UserRegistered(user=each)) for each in people])
    with closing(sqlite3.connect(":memory:")) as database:
        copy = Copy(database)
        following = asyncio.create_task(copy.follow(topics.events_topic))
        same = await copy.verify(api)
        database.execute("UPDATE users SET version = 9 WHERE id = ?", (str(people[7].id),))
        other = await copy.verify(api)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    assert same == "20 users, 0 differ"
    assert other == f"20 users, 1 differ\n{Difference(people[7].id, 9, exists=True)}"


async def test_a_copy_whose_position_is_gone_begins_anew(
    to_the_brokers: None, topics: Topics, publisher: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    ann = person()
    await publisher.publish([record(UserRegistered(user=ann))])
    with closing(sqlite3.connect(":memory:")) as database:
        copy = Copy(database)
        with database as transaction:
            transaction.execute("INSERT INTO users (id, version) VALUES ('of another topic', 1)")
            transaction.execute("INSERT INTO positions VALUES (3, 777, ?, NULL)", (str(datetime.now(UTC)),))
        following = asyncio.create_task(copy.follow(topics.events_topic))

        async def complete() -> bool:
            return copy.as_of is not None

        await until(complete, within=60, what="the new copy to be complete")
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        found = database.execute(USERS).fetchall()

    assert found == [(str(ann.id), 1)]
    assert "beginning anew: partition 3 holds" in capsys.readouterr().err


def test_a_tombstone_acts_whatever_its_version() -> None:
    """That of a repair may have the version that everybody has, or a smaller one."""
    user = person()
    for version in (user.version, user.version + 3):
        kept = UserEvent("id", "type", version, START, User(**user.model_dump() | {"version": version}), {})
        with closing(sqlite3.connect(":memory:")) as database:
            copy = Copy(database)
            for item in (kept, Erased("id", user.id, user.version, START)):
                copy.write(Batch([item], {0: 1}, 1.0, caught_up=True, as_of=None, positions_time=START, newest=None))
            assert database.execute(USERS).fetchall() == []


async def test_it_asks_the_brokers_how_many_partitions_there_are(to_the_brokers: None, kafka: Kafka) -> None:
    topics = await make_topics(kafka, 5)
    people = [person(number) for number in range(20)]
    async with Publisher.open(kafka, topics.events_topic) as publisher:
        await publisher.publish([record(UserRegistered(user=each)) for each in people])
    with closing(sqlite3.connect(":memory:")) as database:
        copy = Copy(database)
        following = asyncio.create_task(copy.follow(topics.events_topic))

        async def complete() -> bool:
            return copy.as_of is not None

        await until(complete, within=60, what="the copy to be complete")
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        found = dict(database.execute(USERS).fetchall())

    assert found == {str(each.id): 1 for each in people}


class Watched(Copy):
    """A copy that notes whether it says to be complete while it has nothing."""

    said_complete = False

    def write(self, batch: Batch) -> None:
        has_nothing = self.database.execute("SELECT count(*) FROM positions").fetchone() == (0,)
        self.said_complete = self.said_complete or (has_nothing and self.as_of is not None)
        super().write(batch)


async def test_a_topic_that_is_made_anew_under_the_running_copy_is_read_from_its_beginning(
    to_the_brokers: None, kafka: Kafka, topics: Topics, publisher: Publisher
) -> None:
    await publisher.publish([record(UserRegistered(user=person(number))) for number in range(30)])
    after = lives(20, 80, seed=13)
    with closing(sqlite3.connect(":memory:")) as database:
        copy = Watched(database)
        following = asyncio.create_task(copy.follow(topics.events_topic))

        async def complete() -> bool:
            assert not following.done(), following.result()
            return copy.as_of is not None

        await until(complete, within=60, what="the first copy to be complete")
        async with admin(kafka) as client:
            await delete_topic(client, topics.events_topic)
            await ensure_topics(client, wanted_topics(topics))
        async with Publisher.open(kafka, topics.events_topic) as again:
            await again.publish(after)

        async def same() -> bool:
            return copy.as_of is not None and dict(database.execute(USERS).fetchall()) == _living(after)

        await until(same, within=60, what="the copy of the other topic")
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    assert not copy.said_complete
