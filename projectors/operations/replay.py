"""Feeds of a generation that is being built: one in the rebuild's own process, and more in processes beside it.

All are members of the generation's consumer group. Kafka gives each of them its share of the partitions, and the
checkpoints keep every record from being applied twice, whoever owns its partition for a moment. So they need no order
among themselves: the group misses one that is killed within its session timeout, and the others go on from its
checkpoints. A process beside ours ends with ours, also where that one is killed.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Final

import structlog

from chassis.lifecycle import freeze_loaded_objects, run_until_stopped, wait_for_event
from chassis.postgres.database import Database
from chassis.telemetry import configure_logging
from projectors.app import YOUNG_OBJECTS, open_database
from projectors.consumer.feed import Feed
from projectors.projections.catalogue import PROJECTIONS
from projectors.settings import ProjectorSettings
from read_model.generations import Generation

log = structlog.get_logger("projectors.replay")

#: Records of one transaction of a replay, where nobody waits for the first of them (measured: with 1,000 a replay takes
#: a fifth longer). They still take only megabytes of memory.
BATCH_RECORDS: Final = 2500
#: A process is started for so many records or more: it takes a second of processor time before it reads the first.
LEAST_RECORDS: Final = 250_000
#: How often a process beside ours looks whether its feed still turns.
LOOK_SECONDS: Final = 1.0
#: A feed that was told to stop finishes its batch and leaves the group: milliseconds, or as long as a broker that hangs
#: is waited for.
STOP_SECONDS: Final = 40.0
#: The group gives us the partitions of those who left at our next heartbeat.
RETURN_SECONDS: Final = 10.0
RETURN_LOOK_SECONDS: Final = 0.05

_SPAWN: Final = multiprocessing.get_context("spawn")


@asynccontextmanager
async def feeding(settings: ProjectorSettings, database: Database, generation: Generation) -> AsyncIterator[Feed]:
    """Feed a generation while the block runs; a batch that has begun is finished."""
    batch_records = max(BATCH_RECORDS, settings.feed.batch_records)
    feed = Feed(
        replace(settings.feed, batch_records=batch_records), database, PROJECTIONS[generation.projection], generation
    )
    task = asyncio.create_task(feed.run(), name=feed.group)
    try:
        yield feed
    finally:
        feed.stop()
        await task


@asynccontextmanager
async def fed_beside(
    feed: Feed, settings: ProjectorSettings, processes: int, stopping: asyncio.Event
) -> AsyncIterator[None]:
    """Have so many more processes feed the generation of `feed` while the block runs.

    After it, all partitions are those of `feed` again, as far as the group gives them back within RETURN_SECONDS.
    """
    watched, held = _SPAWN.Pipe(duplex=False)
    level = logging.getLevelName(logging.getLogger().getEffectiveLevel())
    beside: list[SpawnProcess] = []
    try:
        for _ in range(processes):
            process = _SPAWN.Process(target=_feed, args=(settings, feed.generation, watched, level), daemon=True)
            process.start()
            beside.append(process)
        yield
    finally:
        watched.close()
        held.close()  # which each of them notices, as when we are killed
        await asyncio.gather(*map(_ended, beside))
    deadline = time.monotonic() + RETURN_SECONDS
    while beside and len(feed.assignment) < settings.topic_partitions and time.monotonic() < deadline:
        if await wait_for_event(stopping, RETURN_LOOK_SECONDS):
            break


async def _ended(process: SpawnProcess) -> None:
    await asyncio.to_thread(process.join, STOP_SECONDS)
    if process.is_alive():
        process.kill()
        await asyncio.to_thread(process.join)
    if process.exitcode:
        log.warning("replay.process_failed", code=process.exitcode, then="the others read its partitions")


def _feed(settings: ProjectorSettings, generation: Generation, watched: Connection, level: str) -> None:
    """Feed in this process, until the other end of the pipe is closed."""
    configure_logging("rebuild", level)
    # Coming and leaving is a rebalance, and aiokafka warns of each.
    logging.getLogger("aiokafka").setLevel(logging.ERROR)
    freeze_loaded_objects(YOUNG_OBJECTS)
    raise SystemExit(run_until_stopped(lambda stopping: _feed_until(stopping, settings, generation, watched)))


async def _feed_until(
    stopping: asyncio.Event, settings: ProjectorSettings, generation: Generation, watched: Connection
) -> int:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        loop.remove_reader(watched.fileno())
        stopping.set()

    loop.add_reader(watched.fileno(), stop)
    async with (
        open_database(settings.query_database, application="muster-rebuild") as database,
        feeding(settings, database, generation) as feed,
    ):
        while not await wait_for_event(stopping, LOOK_SECONDS):
            if feed.idle_seconds > settings.projectors_stall_seconds:
                return 1
    return 0
