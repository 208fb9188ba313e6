"""The memory of a rebuild of a million users, in a process of its own like `muster rebuild`."""

import asyncio
import sys
import time
from typing import Final

import psutil

from benchmarks.registrations import publish_many
from benchmarks.reporting.figures import Figure, quotient
from benchmarks.reporting.result import Plot, Result
from benchmarks.running.plan import Plan
from benchmarks.running.servers import Servers
from chassis.settings import Kafka

LOOK_SECONDS: Final = 0.25
#: A run that takes longer than this has another fault than its memory.
REBUILD_SECONDS: Final = 150.0


async def measure_memory(plan: Plan, servers: Servers, result: Result) -> None:
    """Publish `plan.users` registrations, rebuild, and note the resident size on the way."""
    own = await (await servers.new_topics()).new_database("query")
    plan.say(f"publishing {plan.users:,} users")
    await publish_many(own.settings(Kafka), own.environment["EVENTS_TOPIC"], plan.users)
    plan.say(f"rebuilding {plan.users:,} users in a process of its own")
    began = time.perf_counter()
    looks = await _rebuild(own)
    seconds = time.perf_counter() - began
    result.measured(f"rebuild of {plan.users:,} users, with the start of its process", Figure((seconds,)), "s", "once")
    sizes = {part: _size_at(looks, int(plan.users * part)) for part in (0.25, 0.5, 1.0)}
    for part, size in sizes.items():
        result.measured(f"memory of the rebuild at {int(plan.users * part):,} users", Figure.once(size), "MB")
    result.claim(
        f"memory at {plan.users:,} users / at a quarter of them",
        Figure.once(quotient(sizes[1.0], sizes[0.25])),
        at_most=1.25,
    )
    points = [(float(done), size) for done, size in looks]
    result.plot(Plot("rebuild-memory", "Memory of a rebuild", "records", "MB", {"resident": points}))


def _size_at(looks: list[tuple[int, float]], done: int) -> float:
    """Return the greatest size until that many records were applied."""
    return max([size for position, size in looks if position <= done * 1.01], default=looks[0][1])


async def _rebuild(servers: Servers) -> list[tuple[int, float]]:
    """Yield (positions applied, resident MB) over time."""
    arguments = ("-m", "cli.main", "rebuild", "users", "--pause-before-switch", "--accept-difference", "--json")
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=servers.environment, stdout=quiet, stderr=quiet
    )
    watched, looks = psutil.Process(process.pid), list[tuple[int, float]]()
    try:
        async with servers.session("query") as connection, asyncio.timeout(REBUILD_SECONDS):
            while process.returncode is None:
                done = await connection.fetchval(
                    "SELECT coalesce(sum(position), 0)::bigint FROM checkpoints WHERE generation = 2"
                )
                if watched.is_running() and watched.status() != psutil.STATUS_ZOMBIE and done:
                    looks.append((done, watched.memory_info().rss / 1e6))
                await asyncio.sleep(LOOK_SECONDS)
        assert process.returncode == 0, "the rebuild failed"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return looks
