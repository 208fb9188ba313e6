"""The backlog over HTTP: how many events a second one worker gives to one client who begins at the beginning."""

import asyncio
import time
from typing import Final

from benchmarks.registrations import publish_many
from benchmarks.reporting.result import Result
from benchmarks.running.cores import OTHER_CORES, SERVER_CORES, pinned
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Sample, interleave
from benchmarks.running.servers import Servers
from benchmarks.subscribers.client import streaming
from chassis.settings import Topics

#: Read in some seconds; more would tell the same.
USERS: Final = 200_000
BACKLOG_SECONDS: Final = 120.0
NAME: Final = "backlog over HTTP"


async def measure_backlog(plan: Plan, servers: Servers, result: Result) -> None:
    """Read all of it, again and again, each time with a worker that has read none of it."""
    own, users = await servers.new_topics(), min(plan.users, USERS)
    await publish_many(own.kafka_settings, own.settings(Topics).events_topic, users)

    async def read() -> Sample:
        async with own.api("events", cores=SERVER_CORES) as api:
            return await _read(api.port, users)

    with pinned(OTHER_CORES):
        runs = await interleave(plan, {NAME: read}, unit="events/s")
    result.note(f"The backlog is {users:,} thin events, read by one client of one worker, which has a core of its own.")
    result.table(runs)
    result.claim("backlog over HTTP, one worker", runs[NAME], at_least=30_000, unit="events/s")


async def _read(port: int, users: int) -> Sample:
    count = 0

    def came(_: bytes, __: float) -> None:
        nonlocal count
        count += 1

    began = time.perf_counter()
    async with asyncio.timeout(BACKLOG_SECONDS), streaming(port, ["/events?from=beginning"], came) as [client]:
        await client.caught_up.wait()
    assert count == users
    return Sample(count / (time.perf_counter() - began))
