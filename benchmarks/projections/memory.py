"""The memory of a rebuild of a million users by `muster rebuild`, of all its processes together, and how fast it is."""

import asyncio
import math
import sys
import time
from contextlib import suppress
from typing import Final, NamedTuple

import psutil

from benchmarks.registrations import publish_many
from benchmarks.reporting.figures import Figure, figure_of, number, quotient
from benchmarks.reporting.result import Plot, Result
from benchmarks.running.plan import Plan
from benchmarks.running.servers import Servers
from chassis.lifecycle import usable_cores
from chassis.settings import Kafka

LOOK_SECONDS: Final = 0.25
#: A run that takes longer, or is slower, than this has another fault than its memory.
REBUILD_SECONDS: Final = 150.0
SLOWEST_RATE: Final = 4000.0
#: A rebuild that was told to end has others to end first.
STOP_SECONDS: Final = 30.0


async def measure_memory(plan: Plan, servers: Servers, result: Result) -> None:
    """Publish `plan.users` registrations, rebuild, and note the resident size on the way; then only replay them."""
    own = await (await servers.new_topics()).new_database("query")
    plan.say(f"publishing {plan.users:,} users")
    await publish_many(own.settings(Kafka), own.environment["EVENTS_TOPIC"], plan.users)
    plan.say(f"rebuilding {plan.users:,} users by `muster rebuild`")
    began = time.perf_counter()
    within = max(REBUILD_SECONDS, plan.users / SLOWEST_RATE)
    looks = await _rebuild(own, within)
    seconds = time.perf_counter() - began
    result.measured(f"rebuild of {plan.users:,} users, with the start of its process", Figure((seconds,)), "s", "once")
    rates = [replay_rate(looks)]
    for turn in range(2, plan.rounds + 1):
        fresh = await own.new_database("query")
        async with fresh.session("query") as connection:
            await connection.execute("CHECKPOINT")
        rates.append(replay_rate(await _rebuild(fresh, within, until=looks[-1].done if looks else math.inf)))
        plan.say(f"replay {turn}/{plan.rounds}: {number(rates[-1])} events/s")
    name = f"replay of {plan.users:,} users by at most {usable_cores()} processes"
    result.claim(name, figure_of(rates), at_least=70_000, unit="events/s")
    sizes = {part: size_at(looks, int(plan.users * part)) for part in (0.25, 0.5, 1.0)}
    for part, size in sizes.items():
        result.measured(f"memory of the rebuild at {int(plan.users * part):,} users", Figure.once(size), "MB")
    result.claim(
        f"memory at {plan.users:,} users / at a quarter of them",
        Figure.once(quotient(sizes[1.0], sizes[0.25])),
        at_most=1.25,
    )
    points = [(float(look.done), look.size) for look in looks]
    result.plot(Plot("rebuild-memory", "Memory of a rebuild", "records", "MB", {"resident": points}))


class Look(NamedTuple):
    """One look at a rebuild."""

    seconds: float
    #: Positions applied.
    done: int
    #: Resident MB of all its processes; what they share counts in each.
    size: float


def size_at(looks: list[Look], done: int) -> float:
    """Return the greatest size until that many records were applied."""
    return max([look.size for look in looks if look.done <= done * 1.01], default=looks[0].size if looks else math.nan)


def replay_rate(looks: list[Look]) -> float:
    """Return positions a second while the topic is replayed, the start of processes beside the first included.

    NaN where it was seen at fewer than two places: a look came too late for so short a replay.
    """
    if not looks:
        return math.nan
    first, last = looks[0], next(look for look in looks if look.done == looks[-1].done)
    return quotient(last.done - first.done, last.seconds - first.seconds)


async def _rebuild(servers: Servers, within: float, until: float = math.inf) -> list[Look]:
    """Rebuild, at most `until` so many positions are applied, and return what was seen meanwhile."""
    arguments = ("-m", "cli.main", "rebuild", "users", "--pause-before-switch", "--accept-difference", "--json")
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=servers.environment, stdout=quiet, stderr=quiet
    )
    watched, looks = psutil.Process(process.pid), list[Look]()
    try:
        async with servers.session("query") as connection, asyncio.timeout(within):
            while process.returncode is None:
                done = await connection.fetchval(
                    "SELECT coalesce(sum(position), 0)::bigint FROM checkpoints WHERE generation = 2"
                )
                if done and (size := _resident(watched)):
                    looks.append(Look(time.perf_counter(), done, size))
                    if done >= until:
                        return looks
                await asyncio.sleep(LOOK_SECONDS)
        assert process.returncode == 0, "the rebuild failed"
    finally:
        if process.returncode is None:
            # Not by force: it has others that work for it.
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            finally:
                for one in (*watched.children(recursive=True), watched) if process.returncode is None else ():
                    one.kill()
    return looks


def _resident(process: psutil.Process) -> float:
    """Return the resident MB of a process and its children; 0 once it has ended."""
    size = 0.0
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        for one in (process, *process.children(recursive=True)):
            size += one.memory_info().rss / 1e6
    return size
