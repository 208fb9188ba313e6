"""How fast a backlog drains: the relay runs in this process, reads from PostgreSQL, publishes exactly once, deletes."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from benchmarks.relay.backlog import fill
from benchmarks.reporting.samples import cpu_seconds
from benchmarks.running.rounds import Probe, Sample
from benchmarks.running.servers import Servers
from events.envelope import Envelope
from outbox.relay import metrics
from outbox.relay.loop import Relay
from outbox.settings import RelaySettings

#: A backlog of this benchmark drains in seconds.
DRAIN_SECONDS: Final = 60.0
#: Each statement outside a block is a transaction, and all of ours are.
_TRANSACTIONS: Final = """
SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()
"""


def drain_probe(servers: Servers, events: list[Envelope], *, held: bool = False) -> Probe:
    """Let the relay publish the backlog; its start is not counted. `held`: while a snapshot keeps vacuum away."""

    async def probe() -> Sample:
        async with servers.session("command") as connection, _snapshot(servers, held=held):
            await fill(connection, events)
            # The server's counters are a second late unless a session flushes its own.
            await connection.execute("SELECT pg_stat_force_next_flush()")
            before = await connection.fetchval(_TRANSACTIONS)
            seconds, cpu = await _drain(servers, len(events))
            statements = await connection.fetchval(_TRANSACTIONS) - before
            each = {name: used / len(events) * 1000 for name, used in cpu.items()}
            return Sample(len(events) / seconds, {**each, "statements": statements / len(events)})

    return probe


@asynccontextmanager
async def _snapshot(servers: Servers, *, held: bool) -> AsyncIterator[None]:
    async with servers.session("command") as connection:
        if held:
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            await connection.execute("SELECT")
        yield


async def _drain(servers: Servers, events: int) -> tuple[float, dict[str, float]]:
    """Return seconds and CPU seconds from the begin of the first transaction to the deletion of the last page."""
    settings = servers.settings(RelaySettings)
    began, over = asyncio.Event(), asyncio.Event()
    published = _published()

    async def note(point: str) -> None:
        if point == "before_begin":
            began.set()
        elif point == "after_delete":
            asyncio.get_running_loop().call_soon(look)

    def look() -> None:
        if _published() - published >= events:
            over.set()

    stopping = asyncio.Event()
    task = asyncio.create_task(Relay(settings, failpoint=note).run(stopping))
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            await began.wait()
            start, before = time.perf_counter(), _used(servers)
            await over.wait()
            seconds = time.perf_counter() - start
            return seconds, {name: used - before[name] for name, used in _used(servers).items()}
    finally:
        stopping.set()
        await task


def _used(servers: Servers) -> dict[str, float]:
    """Return the CPU seconds of this process, which is the relay's, and of the servers."""
    assert servers.kafka is not None
    pids = {"postgres cpu": servers.postgres.pid, "kafka cpu": servers.kafka.pid}
    return {"cpu": time.process_time(), **{name: cpu_seconds(pid) for name, pid in pids.items() if pid}}


def _published() -> float:
    return sum(sample.value for family in metrics.PUBLISHED.collect() for sample in family.samples[:1])
