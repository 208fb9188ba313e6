"""A backlog that several transactions commit at the same moment, until all of it is on the topic.

Both contenders run and are idle until then. The end is the last record's append time, by the broker's clock, which is
this machine's.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from benchmarks.reporting.samples import sampled
from benchmarks.rivals.committed import committed_since_now
from benchmarks.rivals.contenders import Contender
from benchmarks.running.rounds import NoFigureError, Probe, Sample
from events.envelope import Envelope
from outbox.notifier import Notifier
from outbox.settings import RelaySettings

#: Transactions of a backlog: many enough that none is extraordinarily large.
WRITERS: Final = 10
DRAIN_SECONDS: Final = 60.0
#: All records are readable when they are counted.
QUIET_SECONDS: Final = 5.0


def drain_probe(contender: Contender, events: Sequence[Envelope]) -> Probe:
    """Events a second, from the commit; parts are the process's CPU milliseconds an event and its peak memory in MB."""

    async def probe() -> Sample:
        servers = contender.servers
        async with AsyncExitStack() as stack:
            committed = await stack.enter_async_context(committed_since_now(servers.settings(RelaySettings)))
            notifier = await stack.enter_async_context(Notifier.open(servers.command))
            sessions = [await stack.enter_async_context(servers.session("command")) for _ in range(WRITERS)]
            await sessions[0].execute("CHECKPOINT")
            transactions = [session.transaction() for session in sessions]
            await asyncio.gather(*(transaction.start() for transaction in transactions))
            parts = [events[start::WRITERS] for start in range(WRITERS)]
            await asyncio.gather(*(contender.append(*each) for each in zip(sessions, parts, strict=True)))
            assert contender.process.pid is not None
            async with sampled(contender.process.pid) as usage:
                began = time.time()
                await asyncio.gather(*(transaction.commit() for transaction in transactions))
                notifier.notify()
                try:
                    await committed.until_grown(len(events), within=DRAIN_SECONDS)
                except TimeoutError as error:
                    raise NoFigureError(f"not all of {len(events):,} within {DRAIN_SECONDS:.0f} s") from error
            records = await committed.records(len(events), quiet=QUIET_SECONDS)
        if len(records) != len(events):
            raise NoFigureError(f"{len(records):,} records of {len(events):,} events")
        seconds = max(record.timestamp for record in records) / 1000 - began
        cpu = usage.cpu_seconds / len(events) * 1000
        return Sample(len(events) / seconds, {"cpu": cpu, "MB": usage.peak_bytes / 1e6})

    return probe
