"""A feed's batches follow one another, whoever waits for the one before; a loop that hangs is found."""

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from chassis.http.health import NotReadyError
from chassis.postgres.database import Database
from chassis.settings import PostgresAddress
from projectors.consumer.batches import DecodedBatch
from projectors.consumer.feed import Feed
from projectors.consumer.writing import ConsumerLostError
from projectors.fleet import Fleet
from projectors.projections.catalogue import PROJECTIONS
from projectors.settings import ProjectorSettings
from read_model.generations import Generation

SETTINGS = ProjectorSettings.model_construct(
    kafka_bootstrap_servers="127.0.0.1:9", projectors_group="tests", projectors_stall_seconds=120.0
)
ADDRESS = PostgresAddress(server="127.0.0.1", port=9, user="nobody", password=SecretStr(""), database="none")


async def a_feed() -> Feed:
    async with Database.open(ADDRESS, application="tests") as database:  # nothing connects
        return Feed(SETTINGS.feed, database, PROJECTIONS["users"], Generation("users", 1, 1, "serving"))


async def test_a_batch_begun_by_one_who_waited_is_waited_for_by_the_others_too() -> None:
    writing = (await a_feed())._writing
    before, behind = asyncio.Event(), asyncio.Event()
    writing._in_flight = asyncio.create_task(wait_for(before))

    async def begin_the_next() -> None:
        await writing.finished()
        writing._in_flight = asyncio.create_task(wait_for(behind))

    waiting = [asyncio.create_task(begin_the_next()), asyncio.create_task(writing.finished())]
    await asyncio.wait(waiting, timeout=0)
    before.set()
    await asyncio.gather(*waiting)
    # As a discarded consumer's end does: the database must be at rest when this returns.
    last = asyncio.create_task(writing.finished())
    _, pending = await asyncio.wait([last], timeout=0.05)
    assert pending
    behind.set()
    await last


async def test_nothing_is_read_on_behind_a_batch_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    writing = (await a_feed())._writing

    async def fail(*_: Any, **__: Any) -> int:
        raise ZeroDivisionError

    async def never() -> None:
        pytest.fail("nothing was committed")

    monkeypatch.setattr(writing._writer, "write", fail)
    with capture_logs() as lines:
        writing.begin(DecodedBatch((), ()), notify=True, then=never)
        with pytest.raises(ConsumerLostError):
            await writing.finished()
    assert [line["event"] for line in lines] == ["feed.batch_failed"]
    await writing.finished()


async def test_a_loop_that_has_not_turned_for_long_is_no_longer_alive() -> None:
    feed = await a_feed()
    async with Database.open(ADDRESS, application="tests") as database:  # nothing connects
        fleet = Fleet(SETTINGS, database, ["users"])
    task = asyncio.create_task(asyncio.sleep(0))
    fleet._feeds["users", 1] = feed, task
    await fleet.check_live()
    feed._writing.pulse._last -= 121
    with pytest.raises(NotReadyError, match="users generation 1 has not polled for 121 s"):
        await fleet.check_live()
    fleet._turned -= 121
    with pytest.raises(NotReadyError, match="not looked after its feeds"):
        await fleet.check_live()
    await task


async def wait_for(event: asyncio.Event) -> None:
    await event.wait()
