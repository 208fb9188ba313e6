"""A feed's batches follow one another, whoever waits for the one before."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from chassis.http.health import NotReadyError
from chassis.postgres.database import Database
from chassis.settings import PostgresAddress
from projectors.consumer.feed import Feed
from projectors.consumer.subscription import FETCH_WAIT_MS
from projectors.fleet import Fleet
from projectors.projections.catalogue import PROJECTIONS
from projectors.settings import ProjectorSettings
from read_model.generations import Generation

SETTINGS = ProjectorSettings.model_construct(projectors_group="tests", events_topic="users.events")
ADDRESS = PostgresAddress(server="127.0.0.1", port=9, user="nobody", password=SecretStr(""), database="none")


async def test_a_batch_begun_by_one_who_waited_is_waited_for_by_the_others_too() -> None:
    async with Database.open(ADDRESS, application="tests") as database:  # nothing connects
        feed = Feed(SETTINGS, database, PROJECTIONS["users"], Generation("users", 1, 1, "serving"))
    before, behind = asyncio.Event(), asyncio.Event()
    feed._writing = asyncio.create_task(wait_for(before))

    async def begin_the_next() -> None:
        await feed._written()
        feed._writing = asyncio.create_task(wait_for(behind))

    waiting = [asyncio.create_task(begin_the_next()), asyncio.create_task(feed._written())]
    await asyncio.wait(waiting, timeout=0)
    before.set()
    await asyncio.gather(*waiting)
    # As a discarded consumer's end does: the database must be at rest when this returns.
    last = asyncio.create_task(feed._written())
    _, pending = await asyncio.wait([last], timeout=0.05)
    assert pending
    behind.set()
    await last


@pytest.mark.parametrize(("status", "patience"), [("serving", 100), ("standby", 100), ("building", FETCH_WAIT_MS)])
async def test_the_broker_collects_records_only_while_they_keep_coming(status: str, patience: int) -> None:
    async with Database.open(ADDRESS, application="tests") as database:  # nothing connects
        feed = Feed(SETTINGS, database, PROJECTIONS["timeline"], Generation("timeline", 1, 1, status))
    fetcher = SimpleNamespace(_fetch_max_wait_ms=0, _fetch_min_bytes=0)
    consumer: Any = SimpleNamespace(_fetcher=fetcher)

    def waits_after(now: float, *, came: bool) -> int:
        feed._adapt(consumer, now, came=came)
        return int(fetcher._fetch_max_wait_ms)

    assert waits_after(100.0, came=True) == FETCH_WAIT_MS
    assert waits_after(100.19, came=True) == patience
    assert waits_after(100.38, came=True) == patience
    assert waits_after(100.59, came=True) == FETCH_WAIT_MS
    assert waits_after(100.60, came=True) == patience
    assert waits_after(100.65, came=False) == FETCH_WAIT_MS
    assert fetcher._fetch_min_bytes == 1


async def test_a_loop_that_has_not_turned_for_long_is_no_longer_alive() -> None:
    impatient = SETTINGS.model_copy(update={"projectors_stall_seconds": 120.0})
    async with Database.open(ADDRESS, application="tests") as database:  # nothing connects
        fleet = Fleet(impatient, database, ["users"])
        feed = Feed(impatient, database, PROJECTIONS["users"], Generation("users", 1, 1, "serving"))
    task = asyncio.create_task(asyncio.sleep(0))
    fleet._feeds["users", 1] = feed, task
    await fleet.check_live()
    feed._turned -= 121
    with pytest.raises(NotReadyError, match="users generation 1 has not polled for 121 s"):
        await fleet.check_live()
    fleet._turned -= 121
    with pytest.raises(NotReadyError, match="not looked after its feeds"):
        await fleet.check_live()
    await task


async def wait_for(event: asyncio.Event) -> None:
    await event.wait()
