"""What the leading relay does beside relaying: gauges, making Kafka forget, and jobs that are handed in.

Kafka compacts closed segments only, and a partition that nobody writes to never closes its last one: an erased person's
earlier events would stay in it for ever (tried). So every quarter of max.compaction.lag.ms one record per partition is
written in a transaction that is then aborted: read_committed readers see nothing, Kafka rolls the segment and cleans.
Nothing here holds a lock that a command waits for, and nothing here stops the relay when it fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from aiokafka import AIOKafkaProducer

from chassis.kafka.client import client_arguments
from chassis.lifecycle import Backoff, alongside
from chassis.postgres.database import Connection, connect, describe, disconnect
from outbox.relay import metrics
from outbox.relay.backlog import read_backlog
from outbox.settings import RelaySettings

log = structlog.get_logger("outbox.maintenance")

#: Prometheus scrapes every 15 s or more; a gauge this old is fresh.
GAUGES_SECONDS: Final = 5.0
RETRY_CAP_SECONDS: Final = 60.0
#: A transaction with one small record per partition takes tens of milliseconds.
ROLL_SECONDS: Final = 30.0
#: Marks the aborted records for whoever reads uncommitted.
ROLL_KEY: Final = b"muster.maintenance"


@dataclass(frozen=True, slots=True)
class Job:
    """Work on the command database that one process must do now and then; the leading relay is that one."""

    name: str
    #: Between the end of one run and the beginning of the next.
    seconds: float
    run: Callable[[Connection], Awaitable[None]]


@asynccontextmanager
async def maintaining(settings: RelaySettings, jobs: Sequence[Job] = ()) -> AsyncIterator[None]:
    """Do everything in the background until the block ends; then the gauges are 0, as on any standby."""
    try:
        async with alongside(
            _repeat("gauges", GAUGES_SECONDS, lambda: _measure(settings)),
            _repeat("roll", roll_interval(settings), lambda: roll_segments(settings)),
            *(_repeat(job.name, job.seconds, partial(_run, job, settings)) for job in jobs),
        ):
            yield
    finally:
        # The last values would stand for ever, and an alarm on the greatest of all relays with them.
        metrics.BACKLOG.set(0)
        metrics.OLDEST.set(0)


def roll_interval(settings: RelaySettings) -> float:
    """Seconds between two rolls: four in the time within which an erased person must be forgotten."""
    return settings.topic_max_compaction_lag_ms / 1000 / 4


async def roll_segments(settings: RelaySettings) -> None:
    """Write and abort one record per partition of the events topic, so that Kafka may close and clean its segments."""
    producer = AIOKafkaProducer(
        **client_arguments(settings),
        transactional_id=f"muster.maintenance.{settings.relay_name}",
        transaction_timeout_ms=settings.relay_transaction_timeout_ms,
    )
    try:
        async with asyncio.timeout(ROLL_SECONDS):
            await producer.start()
            await producer.begin_transaction()
            sent = [
                await producer.send(settings.events_topic, None, key=ROLL_KEY, partition=partition)
                for partition in range(settings.topic_partitions)
            ]
            for future in sent:
                await future
            await producer.abort_transaction()
    finally:
        await asyncio.wait_for(producer.stop(), ROLL_SECONDS)
    log.info("maintenance.segments_rolled", partitions=settings.topic_partitions)


async def _measure(settings: RelaySettings) -> None:
    connection = await connect(settings.command_database, application="muster relay maintenance")
    try:
        while True:
            backlog = await read_backlog(connection)
            metrics.BACKLOG.set(backlog.events)
            metrics.OLDEST.set(backlog.oldest_seconds)
            await asyncio.sleep(GAUGES_SECONDS)
    finally:
        await disconnect(connection)


async def _run(job: Job, settings: RelaySettings) -> None:
    connection = await connect(settings.command_database, application="muster relay maintenance")
    try:
        await job.run(connection)
    finally:
        await disconnect(connection)


async def _repeat(name: str, seconds: float, job: Callable[[], Awaitable[None]]) -> None:
    """Do a job every so often; after an error sooner, with growing delays, and one line a failure."""
    backoff = Backoff(first=1.0, cap=min(seconds, RETRY_CAP_SECONDS))
    while True:
        try:
            await job()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a side job, the relay goes on
            log.warning("maintenance.failed", job=name, error=describe(error))
            await asyncio.sleep(backoff.next())
        else:
            backoff.reset()
            await asyncio.sleep(seconds)
