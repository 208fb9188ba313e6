"""What a large backlog costs: the memory of a relay that drains a million events, and a page before a million rows."""

import asyncio
import time
from typing import Final

from benchmarks.relay.backlog import fill_many
from benchmarks.reporting.samples import Usage, sampled
from benchmarks.running.rounds import Probe, Sample
from benchmarks.running.servers import Servers
from outbox.relay.work_list import WorkList
from outbox.settings import RelaySettings

#: Of a million events, or of as many as the plan has users.
DRAIN_SECONDS: Final = 1200.0
#: Pages read for one sample.
PAGES: Final = 5


async def drain_in_its_process(servers: Servers) -> Usage:
    """Start `muster relay` and wait until the outbox is empty; return what the process used since its start."""
    async with servers.session("command") as connection:
        last = await connection.fetchval("SELECT max(id) FROM outbox")
        async with servers.muster("relay", hot=True) as relay:
            assert relay.pid is not None
            async with sampled(relay.pid) as usage, asyncio.timeout(DRAIN_SECONDS):
                # The last row goes last. A look for any row would read all that is deleted, seconds long, every time.
                while await connection.fetchval("SELECT EXISTS (SELECT FROM outbox WHERE id = $1)", last):
                    await asyncio.sleep(0.1)
        assert not await connection.fetchval("SELECT EXISTS (SELECT FROM outbox)")
        return usage


def page_probe(servers: Servers, events: int) -> Probe:
    """Milliseconds of one page in front of so many rows; nothing is published."""
    filled = False

    async def probe() -> Sample:
        nonlocal filled
        settings = servers.settings(RelaySettings)
        if not filled:
            async with servers.session("command") as connection:
                await fill_many(connection, events)
            filled = True
        pages = await WorkList.open(
            servers.command, page_rows=settings.relay_page_rows, page_bytes=settings.relay_page_bytes
        )
        try:
            ids = [read["id"] for read in await pages.page()]
            began = time.perf_counter()
            for _ in range(PAGES):
                await pages.page(in_flight=ids)
            return Sample((time.perf_counter() - began) / PAGES * 1000)
        finally:
            await pages.close()

    return probe


async def idle(servers: Servers, rounds: int, seconds: float) -> list[float]:
    """Return the cores that an idle `muster relay` uses, in each round; its start does not count."""
    async with servers.session("command") as connection:
        await connection.execute("TRUNCATE outbox")
    async with servers.muster("relay") as relay:
        assert relay.pid is not None
        await asyncio.sleep(seconds / 2)
        return [await _used(relay.pid, seconds) for _ in range(rounds)]


async def _used(pid: int, seconds: float) -> float:
    async with sampled(pid) as usage:
        await asyncio.sleep(seconds)
    return usage.cores
