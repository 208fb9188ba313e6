"""A projection is rebuilt while it serves and nobody notices; a killed rebuild goes on; a rollback is a switch back."""

import asyncio
import random
import re
import signal
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from chassis.identifiers import new_id
from chassis.postgres.database import Database
from events.user_events import UserProfileChanged, UserRegistered
from projectors.app import serve
from projectors.operations import rebuild as rebuilding
from projectors.operations import replay
from projectors.operations.lag import measure
from projectors.operations.rebuild import Progress, Rebuild, RebuildError, Stage
from projectors.projections.catalogue import PROJECTIONS
from projectors.settings import ProjectorSettings
from read_model import generations
from read_model.generations import Generation, InUseError, NoGenerationError, NotCaughtUpError, OtherBuildError
from tests.integration.muster_processes import muster
from tests.integration.projectors.conftest import running
from tests.integration.projectors.folds import CONTENTS, FOLDS, changes_of
from tests.integration.projectors.stream import Publisher, lives, new_user, record
from tests.integration.projectors.victim import start_rebuilding_victim
from tests.waiting import until


async def rebuild(
    settings: ProjectorSettings, database: Database, name: str, *, pause: bool = False, stop_at: int | None = None
) -> tuple[Stage, list[Progress]]:
    """Run a rebuild, stopped once so many positions have been replayed."""
    stopping = asyncio.Event()
    looks: list[Progress] = []

    def report(progress: Progress) -> None:
        looks.append(progress)
        if stop_at is not None and progress.done >= stop_at:
            stopping.set()

    stage = await Rebuild(settings, database, name, stopping, report).run(pause_before_switch=pause)
    return stage, looks


async def statuses(database: Database, name: str) -> list[str]:
    async with database.connection() as connection:
        return [one.status for one in await generations.read(connection, name)]


async def indexes(database: Database, name: str, number: int) -> set[str]:
    """The definitions of a generation's indexes, without the generation's number."""
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT indexdef FROM pg_indexes WHERE tablename LIKE $1", f"{name}_g{number}%")
    return {row["indexdef"].replace(f"_g{number}", "_g") for row in rows}


async def contents(database: Database, name: str, number: int) -> Any:
    async with database.connection() as connection:
        return await CONTENTS[name](connection, number)


async def is_ready(settings: ProjectorSettings, database: Database, name: str) -> bool:
    """Everything that is on the topic has been applied to every generation of the projection."""
    found = [one for one in await measure(settings, database) if one.projection == name]
    return all(one.records == 0 for one in found)


@pytest.mark.parametrize("name", sorted(PROJECTIONS))
async def test_a_rebuilt_generation_says_what_a_fold_of_the_topic_says(
    settings: ProjectorSettings, database: Database, publisher: Publisher, name: str
) -> None:
    stream = lives(40, 200, seed=11)
    await publisher.publish(stream[:100])
    await publisher.publish(stream[:20], abort=True)
    await publisher.publish(stream[100:])
    async with running(partial(serve, settings, projections=[name])):
        await until(lambda: is_ready(settings, database, name), within=30, what="the first generation")
        stage, looks = await rebuild(settings, database, name)
        assert stage is Stage.DONE
        assert looks[-1].done == looks[-1].total
        assert await statuses(database, name) == ["standby", "serving"]
        assert await contents(database, name, 2) == FOLDS[name](changes_of(stream))
        assert await contents(database, name, 1) == await contents(database, name, 2)
        assert await indexes(database, name, 2) == await indexes(database, name, 1)


async def test_readers_under_load_see_no_failure_and_no_version_going_back(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    users = [new_user(number) for number in range(20)]
    await publisher.publish([record(UserRegistered(user=user)) for user in users])
    over = asyncio.Event()
    rng = random.Random(3)

    async def write() -> None:
        while not over.is_set():
            index = rng.randrange(len(users))
            before = users[index]
            users[index] = before.model_copy(
                update={"version": before.version + 1, "display_name": f"n{before.version}"}
            )
            change = UserProfileChanged(user=users[index], previous={"display_name": before.display_name})
            await publisher.publish([record(change)])

    reads: list[int] = []

    async def read() -> None:
        """As a query process does: it follows `generations`, here before every read."""
        seen: dict[UUID, int] = {}
        async with database.connection() as connection:
            while not over.is_set():
                number = (await generations.serving(connection, "users")).number
                rows = await connection.fetch(f"SELECT id, version FROM users_g{number}")
                assert len(rows) == len(users)
                for row in rows:
                    assert row["version"] >= seen.get(row["id"], 0)
                    seen[row["id"]] = row["version"]
                reads.append(number)

    async with running(partial(serve, settings, projections=["users"])):
        await until(lambda: is_ready(settings, database, "users"), within=30, what="the first generation")
        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            group.create_task(read())
            stage, _ = await rebuild(settings, database, "users")
            assert stage is Stage.DONE
            await rebuilding.roll_back(database, "users")
            over.set()
        await until(
            lambda: is_ready(settings, database, "users"), within=30, what="both generations to be fed to the end"
        )
    assert {1, 2} == set(reads)
    assert await contents(database, "users", 1) == await contents(database, "users", 2)
    assert {user.id: user.version for user in users} == {
        key: document["version"] for key, document in (await contents(database, "users", 1))["users"].items()
    }


async def test_a_stopped_rebuild_goes_on_where_it_stopped(
    settings: ProjectorSettings, database: Database, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = settings.model_copy(update={"projectors_batch_records": 1})
    monkeypatch.setattr(replay, "BATCH_RECORDS", 1)
    stream = lives(200, 3000, seed=12)
    for start in range(0, len(stream), 500):
        await publisher.publish(stream[start : start + 500])
    stage, looks = await rebuild(slow, database, "users", stop_at=1)
    assert stage is Stage.STOPPED
    stopped_at = looks[-1].done
    assert stopped_at < looks[-1].total
    stage, looks = await rebuild(settings, database, "users", pause=True)
    assert stage is Stage.READY
    assert looks[0].done >= stopped_at
    assert await statuses(database, "users") == ["serving", "building"]
    assert await contents(database, "users", 2) == FOLDS["users"](changes_of(stream))


async def test_a_rebuild_that_is_stopped_while_it_makes_indexes_stops_at_once_and_makes_them_later(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    await publisher.publish(lives(5, 20, seed=16))
    stopping = asyncio.Event()
    work = Rebuild(settings, database, "users", stopping, lambda _: None)
    async with database.connection() as connection:
        await generations.begin(connection, "users")
        async with connection.transaction():
            # An index waits for everybody who may be writing.
            await connection.execute("LOCK TABLE users_g2 IN ROW EXCLUSIVE MODE")
            attempt = asyncio.create_task(work.run(pause_before_switch=True))
            await until(lambda: waits_for_a_lock(connection), within=30, what="the index at the lock")
            stopping.set()
            assert await asyncio.wait_for(attempt, 10) is Stage.STOPPED
        assert not await waits_for_a_lock(connection), "nothing was left behind that goes on making them"
    stage, _ = await rebuild(settings, database, "users", pause=True)
    assert stage is Stage.READY
    assert await indexes(database, "users", 2) == await indexes(database, "users", 1)


async def test_a_rebuild_whose_generation_is_retired_elsewhere_ends_and_the_next_makes_another(
    settings: ProjectorSettings, database: Database, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "BATCH_RECORDS", 1)
    stream = lives(200, 2000, seed=17)
    for start in range(0, len(stream), 500):
        await publisher.publish(stream[start : start + 500])
    begun = asyncio.Event()
    slow = settings.model_copy(update={"projectors_batch_records": 1})
    work = Rebuild(slow, database, "users", asyncio.Event(), lambda progress: begun.set() if progress.done else None)
    attempt = asyncio.create_task(work.run(pause_before_switch=True))
    await asyncio.wait_for(begun.wait(), 30)
    assert [one.number for one in await rebuilding.retire_generations(database, "users", 2)] == [2]
    with pytest.raises(RebuildError, match="2 was retired meanwhile: `muster rebuild users`"):
        await asyncio.wait_for(attempt, 60)

    stage, _ = await rebuild(settings, database, "users", pause=True)
    assert stage is Stage.READY
    assert await statuses(database, "users") == ["serving", "retired", "building"]


async def waits_for_a_lock(connection: generations.Connection) -> bool:
    return bool(await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def test_a_rebuild_that_is_killed_again_and_again_goes_on_and_ends_in_the_same_tables(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    name = "timeline"  # which takes over the most
    small = settings.model_copy(update={"projectors_batch_records": 25})
    stream = lives(60, 600, seed=14)
    await publisher.publish(stream)
    async with running(partial(serve, settings, projections=[name])):
        await until(lambda: is_ready(settings, database, name), within=30, what="the first generation")
        done = 0
        for point, count in (("before_commit", 4), ("after_commit", 4), ("index", 1), ("switch", 1), ("hand_over", 1)):
            victim = await start_rebuilding_victim(small, name, point, count)
            try:
                assert await asyncio.wait_for(victim.wait(), 60) == -signal.SIGKILL, point
            finally:
                victim.kill()
            before, done = done, await replayed(database, name)
            assert done > 0, point
            assert done >= before, f"{point}: what was replayed before is not replayed again"
        assert await statuses(database, name) == ["standby", "serving"]
        more = lives(20, 60, seed=15)
        await publisher.publish(more)
        await until(lambda: is_ready(settings, database, name), within=30, what="the projectors to feed both")
    for number in (1, 2):
        assert await contents(database, name, number) == FOLDS[name](changes_of([*stream, *more]))


async def replayed(database: Database, name: str) -> int:
    async with database.connection() as connection:
        query = "SELECT sum(position)::bigint FROM checkpoints WHERE projection = $1 AND generation = 2"
        return int(await connection.fetchval(query, name) or 0)


async def test_the_timeline_takes_over_what_compaction_removed_but_not_the_erased(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    known, forgotten = new_user(1), new_id()
    latest = known.model_copy(update={"version": 3, "display_name": "x"})
    await publisher.publish([record(UserProfileChanged(user=latest, previous={"display_name": None}))])
    gone = new_id()
    async with database.connection() as connection:
        # What the first generation knows from a time of which the topic has only the last state, or nothing.
        for user_id, version in ((known.id, 1), (known.id, 2), (forgotten, 1)):
            await connection.execute("INSERT INTO timeline_g1 VALUES ($1, $2, '{}')", user_id, version)
        await connection.execute("INSERT INTO timeline_g1_users VALUES ($1, 2)", known.id)
        await connection.execute("INSERT INTO timeline_g1_users VALUES ($1, 1)", forgotten)
        await connection.execute("INSERT INTO timeline_g1_users VALUES ($1, 9, 9)", gone)
    async with running(partial(serve, settings, projections=["timeline"])):
        await until(lambda: is_ready(settings, database, "timeline"), within=30, what="the first generation")
        await rebuild(settings, database, "timeline")
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT user_id, version FROM timeline_g2 ORDER BY version")
        assert [tuple(row) for row in rows] == [(known.id, 1), (known.id, 2), (known.id, 3)]
        heads = await connection.fetch("SELECT id, version, erased_version FROM timeline_g2_users")
        assert {tuple(row) for row in heads} == {(known.id, 3, None), (gone, 9, 9)}


async def test_whom_the_old_generation_knows_as_erased_the_new_one_does_not_bring_back(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    back, again = (new_user(number).model_copy(update={"version": version}) for number, version in ((1, 3), (2, 6)))
    # The topic was set back to before the erasure; the other one was registered anew after it.
    await publisher.publish([record(UserProfileChanged(user=user, previous={})) for user in (back, again)])
    async with database.connection() as connection:
        for user in (back, again):
            await connection.execute("INSERT INTO users_g1_erased VALUES ($1, 5)", user.id)
    stage, _ = await rebuild(settings, database, "users", pause=True)
    assert stage is Stage.READY
    async with database.connection() as connection:
        assert [row["id"] for row in await connection.fetch("SELECT id FROM users_g2")] == [again.id]
        assert await connection.fetchval("SELECT count(*) FROM users_g2_erased WHERE version = 5") == 2


async def test_a_switch_to_a_generation_that_is_behind_changes_nothing(
    settings: ProjectorSettings, database: Database, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "SWITCH_SECONDS", 0.1)
    await publisher.publish(lives(5, 5, seed=1))
    async with running(partial(serve, settings, projections=["users"])):
        await until(lambda: is_ready(settings, database, "users"), within=30, what="the first generation")
        async with database.connection() as connection:
            new, made = await generations.begin(connection, "users")
            assert made
            old = await generations.serving(connection, "users")
            with pytest.raises(NotCaughtUpError):
                await generations.switch(connection, old, new)
    assert await statuses(database, "users") == ["serving", "building"]


async def test_a_retired_generation_leaves_nothing_but_its_number(
    settings: ProjectorSettings, database: Database, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publisher.publish(lives(5, 5, seed=1))
    with capture_logs() as lines:
        await _retire_while_it_is_fed(settings, database, publisher, monkeypatch)
    # It was planned: nobody is to be woken for that.
    assert [line for line in lines if line["log_level"] in {"warning", "error"}] == []
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT to_regclass('users_g1')") is None
        assert await connection.fetchval("SELECT count(*) FROM checkpoints WHERE generation = 1") == 0
        new, _ = await generations.begin(connection, "users")
    assert new.number == 3
    with pytest.raises(NoGenerationError):
        await rebuilding.roll_back(database, "users")


async def _retire_while_it_is_fed(
    settings: ProjectorSettings, database: Database, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(partial(serve, settings, projections=["users"])):
        await rebuild(settings, database, "users")
        with pytest.raises(InUseError):
            await rebuilding.retire_generations(database, "users", 2)
        with pytest.raises(InUseError):
            await rebuilding.retire_generations(database, "users")
        monkeypatch.setattr(generations, "FOLLOWED_SECONDS", 0)
        await publisher.publish(lives(200, 5, seed=2))
        assert [one.number for one in await rebuilding.retire_generations(database, "users")] == [1]
        late = new_user()
        await publisher.publish([record(UserRegistered(user=late))])

        async def is_read() -> bool:
            async with database.connection() as connection:
                return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM users_g2 WHERE id = $1)", late.id))

        await until(is_read, within=20, what="the other generation goes on")


async def test_a_build_of_another_shape_is_left_to_the_code_that_knows_it_or_dropped(
    database: Database, variables: dict[str, str]
) -> None:
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO generations (projection, generation, shape, status) VALUES ('users', 2, 99, 'building')"
        )
        with pytest.raises(OtherBuildError) as refused:
            await generations.begin(connection, "users")
        with pytest.raises(NoGenerationError):
            await generations.begin(connection, "nothing")
        with pytest.raises(NoGenerationError):
            await generations.switch(
                connection, Generation("users", 2, 99, "building"), Generation("users", 1, 1, "serving")
            )
    [drop] = re.findall(r"`muster ([^`]+)`", str(refused.value))
    assert (await muster(variables, *drop.split())).code == 0
    async with database.connection() as connection:
        built, made = await generations.begin(connection, "users")
    assert (built.number, made) == (3, True)
