"""The first and the second start of `muster up`, with what each step took.

The first has an empty data folder and a cache without Kafka's start-up archive: databases are initialised, Kafka is
formatted, the archive is made as it ends. Downloads and the virtual environment are left out: they are the network's.
The second finds everything; so do all later ones, and it is measured several times.
"""

import asyncio
import math
import shutil
from pathlib import Path
from typing import Final

from benchmarks.cold_start.up import Up
from benchmarks.reporting.figures import Figure, figure_of, variation_of
from benchmarks.reporting.result import Result
from benchmarks.running.plan import Plan
from local_stack.cache import cache_folder, shared_cache_folder

BAR_SECONDS: Final = 6.0
#: Kafka's start-up archive, in the folder of its jars.
ARCHIVES: Final = "start-up-*"


async def run(plan: Plan) -> Result:
    """One first start, then as many second ones as there are rounds."""
    result = Result("Cold start")
    result.note(
        "From the command `muster up` to the line that says that all is ready: PostgreSQL, Kafka, migrations, topics, "
        "both APIs, relay and projectors. The first start has an empty data folder and no start-up archive for Kafka; "
        "jars and the virtual environment are there, since a network cannot be measured fairly. Steps overlap."
    )
    cache = await asyncio.to_thread(fresh_cache, plan.folder / "cache")
    up = Up(plan.folder / "stack", cache)
    try:
        first = await up.timed_start()
        first_steps = up.steps()
        plan.say(f"first start: {first:.1f} s")
        await up.stop()
        seconds, steps = [], []
        for number in range(1, plan.rounds + 1):
            seconds.append(await up.timed_start())
            steps.append(up.steps())
            plan.say(f"second start {number}/{plan.rounds}: {seconds[-1]:.1f} s")
            await up.stop()
    finally:
        await up.stop()
    tell(result, first, first_steps, seconds, steps)
    return result


def fresh_cache(target: Path) -> Path:
    """Copy this machine's cache without what Kafka's first start adds."""
    for source in (shared_cache_folder(), cache_folder()):
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(ARCHIVES))
    target.mkdir(exist_ok=True)
    target.chmod(0o755)
    return target


def tell(
    result: Result,
    first: float,
    first_steps: dict[str, float],
    seconds: list[float],
    steps: list[dict[str, float]],
) -> None:
    """Add starts, their steps and the bar to the result."""
    later = Figure(tuple(seconds), variation_of(seconds))
    result.measured("first start", Figure((first,)), "s")
    result.measured("second start", later, "s")
    for name, taken in first_steps.items():
        result.measured(f"first start: {name}", Figure((taken,)), "s")
    for name in steps[0]:
        result.measured(f"second start: {name}", figure_of([step.get(name, math.nan) for step in steps]), "s")
    result.claim("second start", later, at_most=BAR_SECONDS, unit="s", every_round=True)
