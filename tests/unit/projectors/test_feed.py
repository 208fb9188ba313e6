"""A feed's batches follow one another, whoever waits for the one before."""

import asyncio

from pydantic import SecretStr

from chassis.database import Database
from chassis.settings import PostgresAddress
from projectors.catalogue import PROJECTIONS
from projectors.consumer.feed import Feed
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


async def wait_for(event: asyncio.Event) -> None:
    await event.wait()
