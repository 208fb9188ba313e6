"""Members come, go and are killed in mid-batch under load: the tables equal the fold, and nothing is parked."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from chassis.postgres.database import Database
from projectors.app import serve
from projectors.settings import ProjectorSettings
from tests.integration.projectors.conftest import running
from tests.integration.projectors.equality import positions, tables_equal_the_fold
from tests.integration.projectors.stream import FakeRecord, Publisher, lives
from tests.integration.projectors.victim import start_victim
from tests.waiting import until


@asynccontextmanager
async def load(publisher: Publisher, stream: list[FakeRecord], portion: int = 20) -> AsyncIterator[asyncio.Task[None]]:
    """Publish the stream in small transactions, some of them aborted, beside the test."""

    async def publish() -> None:
        for number, start in enumerate(range(0, len(stream), portion)):
            if number % 10 == 9:
                await publisher.publish(stream[start : start + 5], abort=True)
            await publisher.publish(stream[start : start + portion])

    task = asyncio.create_task(publish())
    try:
        yield task
    finally:
        await task


async def test_one_then_three_then_one_member_under_load(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    small = settings.model_copy(update={"projectors_batch_records": 50})
    stream = lives(300, 6000, seed=21)
    half = len(stream) // 2
    async with running(partial(serve, small)), AsyncExitStack() as others:
        async with load(publisher, stream[:half]):
            await until(lambda: positions(database), within=30, what="the first member to work")
            for _ in range(2):
                await others.enter_async_context(running(partial(serve, small)))
            before = await positions(database)
            await until(lambda: more_than(database, before + 1000), within=30, what="three members to work")
        async with load(publisher, stream[half:]):
            await others.aclose()
        await tables_equal_the_fold(small, database, stream)


async def test_a_member_killed_in_mid_batch_loses_and_repeats_nothing(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    small = settings.model_copy(update={"projectors_batch_records": 50})
    stream = lives(200, 4000, seed=22)
    async with load(publisher, stream) as loading:
        for point, count in (("before_commit", 5), ("after_commit", 9)):
            victim = await start_victim(small, point, count)
            try:
                assert await asyncio.wait_for(victim.wait(), 60) == -signal.SIGKILL
            finally:
                victim.kill()
                await victim.wait()
        await loading
    async with running(partial(serve, small)):
        await tables_equal_the_fold(small, database, stream)


async def test_a_frozen_member_that_wakes_up_after_its_partitions_went_changes_nothing(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    small = settings.model_copy(update={"projectors_batch_records": 50})
    stream = lives(200, 3000, seed=23)
    frozen = await start_victim(small, "never")
    try:
        async with load(publisher, stream) as loading:
            await until(lambda: positions(database), within=60, what="the member to work")
            frozen.send_signal(signal.SIGSTOP)
            await loading
        async with running(partial(serve, small)):
            await tables_equal_the_fold(small, database, stream)
            frozen.send_signal(signal.SIGCONT)
            more = lives(50, 500, seed=24)
            await publisher.publish(more)
            await tables_equal_the_fold(small, database, [*stream, *more])
    finally:
        frozen.send_signal(signal.SIGCONT)
        frozen.terminate()
        assert await asyncio.wait_for(frozen.wait(), 30) == 0


async def more_than(database: Database, total: int) -> bool:
    return await positions(database) > total
