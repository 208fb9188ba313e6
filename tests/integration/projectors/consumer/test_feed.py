"""When a feed works, waits, refuses or gives up."""

import asyncio
from datetime import timedelta
from functools import partial

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from chassis.clock import utc_now
from chassis.http.health import NotReadyError
from chassis.kafka.client import admin
from chassis.postgres.database import Database
from chassis.settings import Kafka, PostgresAddress
from events.user_events import UserRegistered
from projectors.app import UnknownProjectionError, serve
from projectors.consumer.feed import Feed
from projectors.consumer.loop import Loop
from projectors.fleet import Fleet
from projectors.operations.lag import measure
from projectors.settings import ProjectorSettings
from tests.conftest import make_topics
from tests.integration.projectors.conftest import make_settings, running
from tests.integration.projectors.stream import START, Publisher, new_user, record
from tests.waiting import until


async def applied(database: Database, count: int) -> bool:
    async with database.connection() as connection:
        return bool(await connection.fetchval("SELECT count(*) FROM users_g1") == count)


async def why_not_ready(fleet: Fleet) -> str:
    try:
        await fleet.check_ready()
    except NotReadyError as error:
        return str(error)
    return ""


async def is_ready(fleet: Fleet) -> bool:
    return not await why_not_ready(fleet)


async def age_checkpoints(database: Database, age: timedelta) -> None:
    async with database.connection() as connection:
        await connection.execute("UPDATE checkpoints SET seen_until = $1", utc_now() - age)


async def test_a_checkpoint_older_than_the_tombstones_refuses_and_says_to_rebuild(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    # One, so that most partitions have nothing young before the checkpoint.
    await publisher.publish([record(UserRegistered(user=new_user(0)))])
    async with running(partial(serve, settings, projections=["users"])):
        await until(lambda: applied(database, 1), within=30, what="the user")
    await age_checkpoints(database, timedelta(days=7, hours=1))
    await let_writers_choose_the_time(settings)
    # An old record behind the checkpoint, and after it perhaps tombstones that are forgotten by now.
    old = START - timedelta(days=100)
    await publisher.publish(
        [record(UserRegistered(user=new_user(number))) for number in range(1, 100)],
        timestamp=int(old.timestamp() * 1000),
    )
    fleet = Fleet(settings, database, ["users"])
    async with running(fleet.run):
        reason = await until(lambda: refusal(fleet), within=30, what="the refusal")
        assert "muster rebuild users" in reason
        assert await applied(database, 1)


async def let_writers_choose_the_time(settings: ProjectorSettings) -> None:
    """As on a topic from before `muster topics` knew better."""
    configs = {"message.timestamp.type": "CreateTime"}
    async with admin(settings) as client:
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, settings.events_topic, configs=configs)])


async def test_neither_a_record_dated_ahead_nor_one_dated_now_makes_as_of_later_than_the_servers_now(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    async def ahead() -> list[int]:
        async with database.connection() as connection:
            rows = await connection.fetch("SELECT partition FROM checkpoints WHERE seen_until > now()")
        return [row["partition"] for row in rows]

    await let_writers_choose_the_time(settings)
    dated = utc_now() + timedelta(minutes=50)
    await publisher.publish([record(UserRegistered(user=new_user(0)))], timestamp=int(dated.timestamp() * 1000))
    async with running(partial(serve, settings, projections=["users"])):
        await until(lambda: applied(database, 1), within=30, what="the user")
        assert not await ahead()
        # What another version's clock has left is taken back with the next note.
        async with database.connection() as connection:
            await connection.execute("UPDATE checkpoints SET seen_until = now() + interval '3 days'")

        async def healed() -> bool:
            return not await ahead()

        await until(healed, within=15, what="every time to be past")


async def refusal(fleet: Fleet) -> str:
    reason = await why_not_ready(fleet)
    return reason if "rebuild" in reason else ""


async def test_an_old_checkpoint_of_a_topic_that_was_quiet_since_is_resumed(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    await publisher.publish([record(UserRegistered(user=new_user(1)))])
    async with running(partial(serve, settings, projections=["users"])):
        await until(lambda: at_the_end(settings, database), within=30, what="the users, and the marker behind them")
    await age_checkpoints(database, timedelta(days=30))
    # What is there by now is young, so no tombstone between it and the checkpoint can have been forgotten.
    await publisher.publish([record(UserRegistered(user=new_user(number))) for number in range(2, 20)])
    async with running(partial(serve, settings, projections=["users"])):
        await until(lambda: applied(database, 19), within=30, what="the new users")


async def at_the_end(settings: ProjectorSettings, database: Database) -> bool:
    found = [one for one in await measure(settings, database) if one.projection == "users"]
    return all(one.records == 0 for one in found)


async def test_members_beyond_the_partitions_are_ready_spares(
    kafka: Kafka, query_database: PostgresAddress, database: Database
) -> None:
    settings = make_settings(kafka, await make_topics(kafka, partitions=1), query_database)
    first, second = Fleet(settings, database, ["users"]), Fleet(settings, database, ["users"])

    async def shared_and_ready() -> bool:
        fed = [len(feed.assignment) for fleet in (first, second) for feed in fleet.feeds.values()]
        return sorted(fed) == [0, 1] and await is_ready(first) and await is_ready(second)

    async with running(first.run), running(second.run):
        await until(shared_and_ready, within=30, what="one member with the partition, one without, both ready")


async def test_is_not_ready_while_it_is_far_behind_at_the_start(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    strict = settings.model_copy(update={"projectors_ready_lag_records": 0})
    await publisher.publish([record(UserRegistered(user=new_user(number))) for number in range(50)])
    async with database.connection() as lock, lock.transaction():
        await lock.execute("LOCK TABLE users_g1 IN SHARE MODE")
        fleet = Fleet(strict, database, ["users"])
        async with running(fleet.run):
            await until(lambda: says(fleet, "behind"), within=30, what="it to say that it is behind")
            await lock.execute("SELECT pg_notify('nothing', '')")
            await lock.execute("ROLLBACK")
            await until(lambda: is_ready(fleet), within=30, what="readiness")
            await lock.execute("BEGIN")


async def says(fleet: Fleet, word: str) -> bool:
    return word in await why_not_ready(fleet)


async def test_a_loop_that_hangs_ends_the_process_with_code_1(
    settings: ProjectorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Loop, "_turn", hang)
    impatient = settings.model_copy(update={"projectors_stall_seconds": 1.0})
    assert await asyncio.wait_for(serve(impatient, asyncio.Event(), ["users"]), 30) == 1


async def test_a_feed_that_is_cancelled_from_within_ends_the_process_with_code_1(
    settings: ProjectorSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def give_up(_: Feed) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(Feed, "run", give_up)
    assert await asyncio.wait_for(serve(settings, asyncio.Event(), ["users"]), 30) == 1


async def test_a_name_that_is_no_projection_is_refused(settings: ProjectorSettings) -> None:
    with pytest.raises(UnknownProjectionError, match="users"):
        await serve(settings, asyncio.Event(), ["nothing"])


async def test_seen_until_follows_the_clock_on_a_quiet_topic_and_never_runs_ahead(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    async def oldest() -> float | None:
        async with database.connection() as connection:
            row = await connection.fetchrow(
                "SELECT count(*) AS known, extract(epoch FROM min(seen_until))::float8 AS oldest,"
                " extract(epoch FROM max(seen_until))::float8 AS newest FROM checkpoints WHERE seen_until IS NOT NULL"
            )
            assert row is not None
            if row["known"] < settings.topic_partitions:
                return None
            assert row["newest"] <= utc_now().timestamp()
            return float(row["oldest"])

    await publisher.publish([record(UserRegistered(user=new_user(1)))])
    async with running(partial(serve, settings, projections=["users"])):
        first = await until(oldest, within=30, what="every partition to be seen")
        assert first is not None

        async def moved() -> bool:
            now = await oldest()
            return now is not None and now > first + 2

        await until(moved, within=15, what="the time to move on without any event")
        now = await oldest()
        assert now is not None
        # A second between notes, half a second between answers, twice; and a shared machine.
        assert utc_now().timestamp() - now < 10
