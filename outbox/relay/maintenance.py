"""The work of the leading relay beside relaying: it measures the backlog, rolls segments, and runs jobs handed to it.

Nothing here holds a lock that a command waits for, and no failure here stops the relay.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from chassis.lifecycle import Backoff, alongside
from chassis.outages import Outage
from chassis.postgres.database import Connection, describe, session
from outbox.publishing.segment_rolling import roll_segments
from outbox.relay import metrics
from outbox.relay.backlog import read_backlog
from outbox.settings import RelaySettings

log = structlog.get_logger("outbox.maintenance")

#: Prometheus scrapes every 15 s or more; a gauge this old is fresh.
GAUGES_SECONDS: Final = 5.0
RETRY_CAP_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Job:
    """Work on the command database that one process must do now and then: the leading relay."""

    name: str
    #: Seconds from the end of one run to the start of the next.
    seconds: float
    run: Callable[[Connection], Awaitable[None]]


@asynccontextmanager
async def maintaining(settings: RelaySettings, jobs: Sequence[Job] = ()) -> AsyncIterator[None]:
    """Do all of it in the background until the block ends; then the gauges are 0, as on any standby."""
    try:
        async with alongside(
            _repeat("gauges", GAUGES_SECONDS, partial(_measure, settings)),
            _repeat("roll", roll_interval(settings), partial(roll_segments, settings)),
            *(_repeat(job.name, job.seconds, partial(_run, job, settings)) for job in jobs),
        ):
            yield
    finally:
        # Otherwise the last values stand for ever, and with them an alarm on the maximum of all relays.
        metrics.BACKLOG_EVENTS.set(0)
        metrics.OLDEST_SECONDS.set(0)
        metrics.SET_ASIDE.set(0)
        metrics.BYTES.set(0)


def roll_interval(settings: RelaySettings) -> float:
    """Seconds between two rolls: four in the time within which an erased subject must be forgotten."""
    return settings.topic_max_compaction_lag_ms / 1000 / 4


async def _measure(settings: RelaySettings) -> None:
    async with session(settings.command_database, application="muster relay maintenance") as connection:
        while True:
            backlog = await read_backlog(connection)
            metrics.BACKLOG_EVENTS.set(backlog.events)
            metrics.OLDEST_SECONDS.set(backlog.oldest_seconds)
            metrics.SET_ASIDE.set(backlog.set_aside)
            metrics.BYTES.set(backlog.bytes)
            await asyncio.sleep(GAUGES_SECONDS)


async def _run(job: Job, settings: RelaySettings) -> None:
    async with session(settings.command_database, application="muster relay maintenance") as connection:
        await job.run(connection)


async def _repeat(name: str, seconds: float, job: Callable[[], Awaitable[None]]) -> None:
    """Do a job every so often; after a failure sooner, with growing delays."""
    outage = Outage(log.bind(job=name), "maintenance.failed")
    backoff = Backoff(first=1.0, cap=min(seconds, RETRY_CAP_SECONDS))
    while True:
        try:
            await job()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a side job, the relay goes on
            outage.failed(describe(error))
            await asyncio.sleep(backoff.next())
        else:
            outage.over()
            backoff.reset()
            await asyncio.sleep(seconds)
