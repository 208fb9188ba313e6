"""Several processes replay one generation together, whichever of them is killed, and nothing is lost or repeated."""

import asyncio
import multiprocessing
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from multiprocessing.context import SpawnProcess

import pytest
from structlog.testing import capture_logs

from chassis.postgres.database import Database
from events.user_events import UserErased
from projectors.app import serve
from projectors.operations import replay
from projectors.operations.rebuild import Rebuild, Stage
from projectors.settings import ProjectorSettings
from read_model import generations
from tests.integration.projectors.conftest import running
from tests.integration.projectors.equality import tables_equal_the_fold
from tests.integration.projectors.folds import FOLDS, changes_of, users_contents
from tests.integration.projectors.stream import FakeRecord, Publisher, lives, record
from tests.integration.projectors.victim import start_rebuilding_victim
from tests.waiting import until


@asynccontextmanager
async def held_up(database: Database) -> AsyncIterator[None]:
    """Let nobody write to generation 2 of users, which is made for it."""
    async with database.connection(60) as connection:
        await generations.begin(connection, "users")
        async with connection.transaction():
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            await connection.execute("LOCK TABLE users_g2 IN EXCLUSIVE MODE")
            yield


def beside() -> list[SpawnProcess]:
    """The processes that replay beside a rebuild in this one."""
    return [process for process in multiprocessing.active_children() if isinstance(process, SpawnProcess)]


async def waiting(database: Database, *applications: str) -> bool:
    """Whether each of these is in the middle of a batch, held up."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            "SELECT DISTINCT application_name AS name FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        )
    return {row["name"] for row in rows} >= set(applications)


async def left_alone(database: Database) -> bool:
    """Whether no process beside a rebuild has a session any more."""
    async with database.connection() as connection:
        return not await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'muster-rebuild'"
        )


async def contents(database: Database, number: int) -> object:
    async with database.connection() as connection:
        return await users_contents(connection, number)


def erasures(stream: list[FakeRecord], number: int) -> list[FakeRecord]:
    """The erasures of so many who live at the end of it."""
    documents = FOLDS["users"](changes_of(stream))["users"]
    return [record(UserErased(user_id, document["version"] + 1)) for user_id, document in [*documents.items()][:number]]


async def test_one_of_two_processes_is_killed_while_users_are_erased_and_the_tables_are_those_that_serve(
    settings: ProjectorSettings, database: Database, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "LEAST_RECORDS", 1)
    stream = lives(80, 600, seed=31)
    await publisher.publish(stream)
    gone = erasures(stream, 10)
    work = Rebuild(settings, database, "users", asyncio.Event(), lambda _: None)
    with capture_logs() as lines:
        async with running(partial(serve, settings)):
            async with held_up(database):
                attempt = asyncio.create_task(work.run(pause_before_switch=True, processes=2))
                await until(lambda: waiting(database, "tests", "muster-rebuild"), within=60, what="both to write")
                await publisher.publish(gone)
                await publisher.publish(stream[:200])  # delivered again
                [other] = beside()
                other.kill()
            assert await asyncio.wait_for(attempt, 60) is Stage.READY
            await tables_equal_the_fold(settings, database, [*stream, *gone])
    assert await contents(database, 2) == await contents(database, 1)
    assert [line["code"] for line in lines if line["event"] == "replay.process_failed"] == [-signal.SIGKILL]


async def test_who_replays_beside_a_rebuild_that_is_killed_ends_and_the_next_goes_on(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    stream = lives(40, 200, seed=32)
    await publisher.publish(stream)
    async with held_up(database):
        victim = await start_rebuilding_victim(settings, "users", "never", processes=2)
        try:
            await until(lambda: waiting(database, "victim", "muster-rebuild"), within=60, what="both to write")
        finally:
            victim.kill()
            await victim.wait()
    await until(lambda: left_alone(database), within=60, what="the process beside it to end")
    work = Rebuild(settings, database, "users", asyncio.Event(), lambda _: None)
    assert await work.run(pause_before_switch=True) is Stage.READY
    assert await contents(database, 2) == FOLDS["users"](changes_of(stream))


async def test_a_short_topic_is_replayed_by_one_process(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    await publisher.publish(lives(5, 10, seed=33))
    seen: list[SpawnProcess] = []
    work = Rebuild(settings, database, "users", asyncio.Event(), lambda _: seen.extend(beside()))
    assert await work.run(pause_before_switch=True, processes=4) is Stage.READY
    assert not seen
