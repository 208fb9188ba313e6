"""What a stall of PostgreSQL costs: all its processes are frozen for a second while requests keep arriving."""

import asyncio
from typing import Final

from benchmarks.reporting.figures import Figure
from benchmarks.reporting.result import Result
from benchmarks.running.load import Next, open_loop
from benchmarks.running.plan import Plan
from benchmarks.running.servers import Servers

STALL_SECONDS: Final = 1.0
#: Requests are sent from before the stall until those that queued in it are answered.
BEFORE_SECONDS, AFTER_SECONDS = 0.5, 1.0
#: Connections: each waiting request holds one, and far fewer wait at the end of a stall.
CONNECTIONS: Final = 4096
#: Part of the peak. At half of it, half of the capacity after a stall is left for what has queued.
PART_OF_PEAK: Final = 0.5


async def stalls(
    plan: Plan, result: Result, servers: Servers, port: int, subjects: dict[str, tuple[Next, float]]
) -> None:
    """Load each subject to half of its peak; add how many requests are refused or lost, and the longest answer."""
    for name, (following, peak) in subjects.items():
        plan.say(f"stalling PostgreSQL under {name}")
        stall = asyncio.create_task(_stall(servers))
        rate, seconds = peak * PART_OF_PEAK, BEFORE_SECONDS + STALL_SECONDS + AFTER_SECONDS
        measured = await open_loop(
            port, following, rate=rate, connections=CONNECTIONS, seconds=seconds, good=frozenset({200, 503})
        )
        await stall
        asked = len(measured.latencies) + measured.lost
        dropped = measured.statuses.get(503, 0) + measured.lost
        result.claim(
            f"{name}: dropped of {asked:,} over a stall of {STALL_SECONDS:g} s",
            Figure.once(dropped),
            at_most=0,
            unit="requests",
        )
        longest = Figure((measured.percentile(1.0),))
        result.measured(f"{name}: longest wait over a stall", longest, "s", note="once, from when it was due")


async def _stall(servers: Servers) -> None:
    await asyncio.sleep(BEFORE_SECONDS)
    servers.postgres.pause()
    try:
        await asyncio.sleep(STALL_SECONDS)
    finally:
        servers.postgres.resume()
