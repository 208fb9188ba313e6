"""A checkpoint belongs to one log: on any other the generation is refused, for good, and everybody says so."""

import asyncio
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from structlog.testing import capture_logs

from chassis.kafka import append_times
from chassis.kafka.client import admin, delete_topic, ensure_topics
from chassis.kafka.topic_ids import topic_id
from chassis.postgres.database import Database
from chassis.settings import Kafka, PostgresAddress
from cli.doctor.feeds import examine_feeds
from events.user_events import UserRegistered
from outbox.topics import wanted_topics
from projectors.app import serve
from projectors.consumer import loop, metrics
from projectors.consumer.assignment import Assignment
from projectors.consumer.subscription import Fetched
from projectors.fleet import Fleet
from projectors.operations.lag import GenerationLag, measure
from projectors.operations.rebuild import Progress, Rebuild, RebuildError, Stage
from projectors.settings import ProjectorSettings
from read_model import feeding, generations
from read_model.feeding import FeedState
from tests.conftest import make_topics
from tests.integration.projectors.conftest import make_settings, running
from tests.integration.projectors.consumer.test_feed import applied, at_the_end, is_ready, says, why_not_ready
from tests.integration.projectors.stream import FakeRecord, Publisher, new_user, record
from tests.waiting import until

#: Within which every channel says that something is wrong.
SAID_SECONDS = 15


@pytest.fixture
async def settings(kafka: Kafka, query_database: PostgresAddress) -> ProjectorSettings:
    """Of a topic with one partition: a record there is a record of all."""
    return make_settings(kafka, await make_topics(kafka, partitions=1), query_database)


def users(numbers: range) -> list[FakeRecord]:
    return [record(UserRegistered(user=new_user(number))) for number in numbers]


async def publish(settings: ProjectorSettings, numbers: range) -> None:
    """With a producer of its own, since the topic may be another than before."""
    async with Publisher.open(settings, settings.events_topic) as publisher:
        await publisher.publish(users(numbers))


async def delete_events(settings: ProjectorSettings) -> None:
    async with admin(settings) as client:
        await delete_topic(client, settings.events_topic)


async def make_topic(settings: ProjectorSettings) -> None:
    async with admin(settings) as client:
        await ensure_topics(client, wanted_topics(settings))


async def delete_records_before(settings: ProjectorSettings, offset: int) -> None:
    """Which Kafka lets nobody do while the topic is compacted."""
    configs = {"cleanup.policy": "delete"}
    async with admin(settings) as client:
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, settings.events_topic, configs=configs)])
        await client.delete_records({TopicPartition(settings.events_topic, 0): RecordsToDelete(before_offset=offset)})


async def feed_all(settings: ProjectorSettings, database: Database) -> None:
    """What is on the topic, to its end, by a process that then ends."""
    async with running(partial(serve, settings, projections=["users"])):
        await until(lambda: at_the_end(settings, database), within=30, what="everything to be applied")


async def lag_of_users(settings: ProjectorSettings, database: Database) -> GenerationLag:
    [found] = [one for one in await measure(settings, database) if one.projection == "users"]
    return found


async def stored_refusal(database: Database) -> str:
    async with database.connection() as connection:
        return (await generations.serving(connection, "users")).refusal or ""


async def shows_that_it_is_refused() -> bool:
    shown = {sample.labels["state"]: sample.value for sample in next(iter(metrics.FEED_STATE.collect())).samples}
    return shown == {"refused": 1, "fed": 0, "unassigned": 0, "topic-gone": 0}


async def test_a_topic_that_was_lost_and_made_again_is_refused_and_said_until_a_rebuild(
    settings: ProjectorSettings, database: Database
) -> None:
    await publish(settings, range(20))
    await feed_all(settings, database)
    await delete_events(settings)
    await make_topic(settings)
    # More than there were: every position is one of the new topic too.
    await publish(settings, range(100, 150))

    await a_process_is_refused_and_says_so(settings, database)
    await a_process_is_refused_and_says_so(settings, database)
    found = await lag_of_users(settings, database)
    assert (found.state, found.records) == (FeedState.REFUSED, None)
    assert "another" in found.reason
    [finding] = [one for one in await examine_feeds(settings) if one.check == "feed: users"]
    assert finding.result == "failed"
    assert await applied(database, 20)

    await the_rebuild_leaves_nobody_out_unasked(settings, database)


async def a_process_is_refused_and_says_so(settings: ProjectorSettings, database: Database) -> None:
    fleet = Fleet(settings, database, ["users"])
    async with running(fleet.run):
        await until(lambda: says(fleet, "refused"), within=SAID_SECONDS, what="the refusal")
        assert "muster rebuild users" in await why_not_ready(fleet)
        await until(shows_that_it_is_refused, within=SAID_SECONDS, what="the metric")


async def the_rebuild_leaves_nobody_out_unasked(settings: ProjectorSettings, database: Database) -> None:
    def rebuild() -> Rebuild:
        return Rebuild(settings, database, "users", asyncio.Event(), lambda _: None)

    with pytest.raises(RebuildError, match=r"leaves out 20 users of generation 1, .*`muster repair ID"):
        await rebuild().run(pause_before_switch=False)
    assert await stored_refusal(database)
    fleet = Fleet(settings, database, ["users"])
    async with running(fleet.run):
        accepting = rebuild()
        done = asyncio.create_task(accepting.run(pause_before_switch=False, accept_difference=True))
        assert await asyncio.wait_for(done, 60) is Stage.DONE
        assert accepting.accepted.startswith("leaves out 20 users of generation 1")
        await until(lambda: is_ready(fleet), within=30, what="readiness beside the refused one, which stands by")
    assert not await stored_refusal(database)
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM users_g2") == 50
        [old, new] = await generations.read(connection, "users")
        with pytest.raises(generations.NotCaughtUpError, match="refused"):
            await generations.switch(connection, new, old)


async def test_a_topic_that_is_lost_while_all_runs_is_said_and_the_one_made_after_it_refused(
    settings: ProjectorSettings, database: Database
) -> None:
    await publish(settings, range(20))
    fleet = Fleet(settings, database, ["users"])
    async with running(fleet.run):
        await until(lambda: applied(database, 20), within=30, what="the users")
        await until(lambda: is_ready(fleet), within=10, what="readiness")
        await delete_events(settings)
        await until(lambda: says(fleet, "topic-gone"), within=SAID_SECONDS, what="the topic to be missed")
        assert (await lag_of_users(settings, database)).state is FeedState.TOPIC_GONE
        await make_topic(settings)
        await publish(settings, range(100, 200))
        await until(lambda: says(fleet, "refused"), within=SAID_SECONDS, what="the refusal")
    assert await stored_refusal(database)
    assert await applied(database, 20), "nothing of another log was read past what was missed"


async def test_one_wrong_answer_about_the_topic_is_no_loss(
    settings: ProjectorSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publish(settings, range(5))
    fleet = Fleet(settings, database, ["users"])
    states: list[FeedState] = []

    async def wrong_once(consumer: AIOKafkaConsumer, topic: str) -> UUID | None:
        found = await topic_id(consumer, topic)
        states.append(fleet.feeds["users", 1].state()[0])
        return None if len(states) == 1 else found

    async with running(fleet.run):
        await until(lambda: is_ready(fleet), within=30, what="readiness")
        monkeypatch.setattr(loop, "topic_id", wrong_once)
        await until(lambda: say(len(states) > 1), within=SAID_SECONDS, what="the next look")
    assert set(states) == {FeedState.FED}, "as it was seen from the wrong answer to the next one"


async def test_another_record_at_the_last_ones_offset_is_refused(
    settings: ProjectorSettings, database: Database
) -> None:
    await publish(settings, range(5))
    await feed_all(settings, database)
    async with database.connection() as connection:
        await connection.execute("UPDATE checkpoints SET record_id = $1", UUID(int=1))
    fleet = Fleet(settings, database, ["users"])
    async with running(fleet.run):
        await until(lambda: says(fleet, "was event"), within=SAID_SECONDS, what="the refusal")


def nameless(numbers: range) -> list[FakeRecord]:
    """Records of somebody else's, without an id."""
    return [FakeRecord(b"%d" % number, b"x", []) for number in numbers]


async def test_a_generation_that_has_read_another_topic_is_refused_whatever_it_read_there(
    settings: ProjectorSettings, database: Database, kafka: Kafka
) -> None:
    async with Publisher.open(settings, settings.events_topic) as publisher:
        await publisher.publish(nameless(range(3)))
    await feed_all(settings, database)
    other = settings.model_copy(update=(await make_topics(kafka, partitions=1)).model_dump())
    fleet = Fleet(other, database, ["users"])
    async with running(fleet.run):
        await until(lambda: says(fleet, "has read the topic"), within=SAID_SECONDS, what="the refusal")
    assert settings.events_topic in await stored_refusal(database)
    [finding] = [one for one in await examine_feeds(other) if one.check == "feed: users"]
    assert finding.result == "failed", "although nothing was ever applied of the topic that the settings name"


async def test_a_flood_without_ids_is_not_fetched_again_at_each_start(
    settings: ProjectorSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.model_copy(update={"projectors_batch_records": 50})
    async with Publisher.open(settings, settings.events_topic) as publisher:
        for some in (users(range(1)), nameless(range(500))):
            await publisher.publish(some)
            await feed_all(settings, database)
    fetched: list[int] = []
    take = Assignment.take

    async def watched(self: Assignment, consumer: AIOKafkaConsumer, found: Fetched) -> Any:
        fetched.extend(one.offset for records in found.values() for one in records)
        return await take(self, consumer, found)

    monkeypatch.setattr(Assignment, "take", watched)
    await publish(settings, range(1, 2))
    async with running(partial(serve, settings, projections=["users"])):
        await until(lambda: applied(database, 2), within=30, what="the user behind the flood")
    assert len(fetched) <= 2 * 50
    assert fetched[0] == 0, "the last record with an id was compared"


@pytest.mark.parametrize("is_made_again", [True, False], ids=["and made again", "and gone"])
async def test_a_rebuild_ends_where_its_topic_is_deleted_in_the_middle(
    settings: ProjectorSettings, database: Database, *, is_made_again: bool
) -> None:
    await publish(settings, range(5))
    looks: list[Progress] = []
    async with database.connection() as holder, holder.transaction():
        await holder.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        # The feed may look, and not begin.
        await holder.execute("LOCK TABLE checkpoints IN SHARE MODE")
        work = Rebuild(settings, database, "users", asyncio.Event(), looks.append)
        rebuilding = asyncio.create_task(work.run(pause_before_switch=False))
        await until(lambda: say(bool(looks)), within=15, what="the replay")
        await delete_events(settings)
        if is_made_again:
            await make_topic(settings)
        await asyncio.wait([rebuilding], timeout=30)
    assert rebuilding.done()
    with pytest.raises(RebuildError, match="was made again" if is_made_again else "there is no topic") as refused:
        await rebuilding
    advised = str(refused.value)
    if not is_made_again:
        assert "`muster topics`" in advised
        await make_topic(settings)
    assert "`muster events refill`" in advised
    assert "`muster rebuild users` drops what this one has read and begins anew" in advised
    await another_rebuild_reads_the_new_topic(settings, database)


async def another_rebuild_reads_the_new_topic(settings: ProjectorSettings, database: Database) -> None:
    await publish(settings, range(10, 17))
    work = Rebuild(settings, database, "users", asyncio.Event(), lambda _: None)
    assert await asyncio.wait_for(work.run(pause_before_switch=False, hand_over=False), 60) is Stage.DONE
    async with database.connection() as connection:
        serving = await generations.serving(connection, "users")
        assert await connection.fetchval(f"SELECT count(*) FROM users_g{serving.number}") == 7


async def test_a_build_that_waited_while_its_topic_was_lost_is_begun_anew(
    settings: ProjectorSettings, database: Database
) -> None:
    await publish(settings, range(5))
    paused = Rebuild(settings, database, "users", asyncio.Event(), lambda _: None)
    assert await paused.run(pause_before_switch=True) is Stage.READY
    await delete_events(settings)
    await make_topic(settings)
    await another_rebuild_reads_the_new_topic(settings, database)
    async with database.connection() as connection:
        assert [one.status for one in await generations.read(connection, "users")] == ["standby", "retired", "serving"]


async def test_a_build_that_is_refused_is_replaced_by_the_next_rebuild(
    settings: ProjectorSettings, database: Database
) -> None:
    await publish(settings, range(5))
    paused = Rebuild(settings, database, "users", asyncio.Event(), lambda _: None)
    assert await paused.run(pause_before_switch=True) is Stage.READY
    async with database.connection() as connection:
        [_, built] = await generations.read(connection, "users")
        await generations.refuse(connection, built, "a test says so")
        [_, built] = await generations.read(connection, "users")
    assert "`muster rebuild users` builds another in its place" in feeding.why_refused(built)
    again = Rebuild(settings, database, "users", asyncio.Event(), lambda _: None)
    assert await asyncio.wait_for(again.run(pause_before_switch=True), 60) is Stage.READY
    async with database.connection() as connection:
        assert [one.status for one in await generations.read(connection, "users")] == ["serving", "retired", "building"]


async def say(what: bool) -> bool:
    return what


@pytest.mark.parametrize(
    ("before", "adopted"),
    [
        pytest.param(
            "topic_id = NULL, record_offset = NULL, record_id = NULL", "checkpoints.topic_adopted", id="without a topic"
        ),
        # Of an earlier position: all that this version has read since is younger.
        pytest.param("newest = 1, newest_position = 1", "feed.log_adopted", id="moved by a version before"),
    ],
)
async def test_a_checkpoint_from_before_adopts_what_is_there_once_and_resumes(
    settings: ProjectorSettings, database: Database, before: str, adopted: str
) -> None:
    await publish(settings, range(5))
    await feed_all(settings, database)
    async with database.connection() as connection:
        await connection.execute(f"UPDATE checkpoints SET {before}")
    await publish(settings, range(5, 9))
    with capture_logs() as lines:
        await feed_all(settings, database)
        await feed_all(settings, database)
    assert [line["partitions"] for line in lines if line["event"] == adopted] == [[0]]
    async with database.connection() as connection:
        [kept] = await connection.fetch("SELECT topic_id, record_offset, record_id FROM checkpoints")
    assert all(kept.values())
    assert await applied(database, 9)


async def test_what_nobody_reads_may_be_younger_than_all_that_was_read(
    settings: ProjectorSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Markers of long transactions are, and aborted records. Here everything is looked at, and not what comes late."""
    monkeypatch.setattr(append_times, "MARKER_MS", -1)
    await publish(settings, range(5))
    async with Publisher.open(settings, settings.events_topic) as publisher:
        await publisher.publish(users(range(5, 9)), abort=True)
    await feed_all(settings, database)
    await publish(settings, range(9, 12))
    await feed_all(settings, database)
    assert await applied(database, 8)
    assert not await stored_refusal(database)


@pytest.mark.parametrize(("position", "words"), [(10**6, "the topic ends at"), (2, "the topic begins at")])
async def test_a_position_off_the_log_is_refused(
    settings: ProjectorSettings, database: Database, position: int, words: str
) -> None:
    await publish(settings, range(5))
    await feed_all(settings, database)
    await delete_records_before(settings, 4)
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE checkpoints SET position = $1, record_offset = NULL, record_id = NULL", position
        )
    fleet = Fleet(settings, database, ["users"])
    async with running(fleet.run):
        await until(lambda: says(fleet, words), within=SAID_SECONDS, what="the refusal")


async def test_a_generation_that_has_read_nothing_begins_where_the_log_does(
    settings: ProjectorSettings, database: Database
) -> None:
    await publish(settings, range(5))
    await delete_records_before(settings, 3)
    await feed_all(settings, database)
    assert await applied(database, 2)


async def test_a_member_without_partitions_is_no_spare_while_nobody_feeds_them(
    settings: ProjectorSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding, "SILENT_SECONDS", 2)
    fleets = [Fleet(settings, database, ["users"]) for _ in range(2)]

    async def spares() -> list[Fleet]:
        """Those that say they are ready and have no partition."""
        idle = [fleet for fleet in fleets if fleet.feeds and all(feed.is_spare for feed in fleet.feeds.values())]
        return [fleet for fleet in idle if await is_ready(fleet)]

    async def is_fed() -> bool:
        return (await lag_of_users(settings, database)).state is FeedState.FED

    async def one_says_so() -> bool:
        """Whichever is the spare now: on a slow machine they may change places."""
        return any([await says(fleet, "unassigned") for fleet in fleets])

    async with running(fleets[0].run), running(fleets[1].run):
        await until(spares, within=30, what="one member with the partition, and a spare")
        await until(is_fed, within=30, what="the partition's first note")
        async with database.connection() as holder, holder.transaction():
            await holder.execute("SELECT FROM checkpoints FOR UPDATE")
            await until(one_says_so, within=SAID_SECONDS, what="it to say that nobody feeds it")
            assert (await lag_of_users(settings, database)).state is FeedState.UNASSIGNED
        await until(spares, within=SAID_SECONDS, what="it to be a spare again")


async def test_a_member_whose_database_takes_nothing_says_so_and_how_old_is_what_can_be_read(
    settings: ProjectorSettings, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("projectors.consumer.feed.SILENT_SECONDS", 2)
    await publish(settings, range(5))
    fleet = Fleet(settings, database, ["users"])
    async with running(fleet.run):
        await until(lambda: at_the_end(settings, database), within=30, what="everything to be applied")
        await until(lambda: shows_age(-1), within=30, what="the first note of how fresh all is")
        async with database.connection() as holder, holder.transaction():
            await holder.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            await holder.execute("SELECT FROM checkpoints FOR UPDATE")
            await until(lambda: says(fleet, "has not taken what was read"), within=SAID_SECONDS, what="it to say so")
            await until(lambda: shows_age(2), within=SAID_SECONDS, what="the age to grow")
            await until(lambda: shows_state("unassigned"), within=SAID_SECONDS, what="the metric to say so")
        await until(lambda: is_ready(fleet), within=SAID_SECONDS, what="the feed to be ready again")


async def shows_age(seconds: float) -> bool:
    return any(sample.value > seconds for sample in next(iter(metrics.LAG_SECONDS.collect())).samples)


async def shows_state(name: str) -> bool:
    return any(
        sample.value == 1
        for sample in next(iter(metrics.FEED_STATE.collect())).samples
        if sample.labels["state"] == name
    )


async def test_what_stands_by_and_has_counted_garbage_does_not_hold_the_process_back(
    settings: ProjectorSettings, database: Database
) -> None:
    async with database.connection() as connection:
        second, _ = await generations.begin(connection, "users")
        await connection.execute("UPDATE generations SET status = 'standby' WHERE status = 'building'")
        await connection.execute(
            "INSERT INTO counted_records VALUES ('users', $1, $2, 0, 3, 1, 3)", second.number, settings.events_topic
        )
    fleet = Fleet(settings, database, ["users"])
    async with running(fleet.run):
        await until(lambda: is_ready(fleet), within=30, what="the process to be ready")
