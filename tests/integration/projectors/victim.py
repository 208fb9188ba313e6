"""A process of its own that feeds or rebuilds, and kills itself (SIGKILL) at a point, the n-th time it gets there."""

import asyncio
import os
import signal
import sys
from typing import Any

from chassis.lifecycle import run_until_stopped
from chassis.postgres.roles import OPERATOR
from chassis.telemetry import configure_logging
from projectors.app import open_database, serve
from projectors.consumer import parking
from projectors.consumer.loop import Loop
from projectors.operations import replay
from projectors.operations.rebuild import Rebuild
from projectors.settings import ProjectorSettings
from read_model import generations
from tests.databases import as_role
from tests.forks import Fork


def dying_after(count: int, original: Any) -> Any:
    """The function, and death before its n-th call."""
    calls = 0

    async def call(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= count:
            os.kill(os.getpid(), signal.SIGKILL)
        return await original(*arguments, **named)

    return call


def die_at(point: str, count: int) -> None:
    """Put death in place."""
    match point:
        case "before_commit":
            # The last thing in a batch's transaction.
            parking.park = dying_after(count, parking.park)
        case "after_commit":
            # The first thing after it.
            Loop._show_offsets = dying_after(count, Loop._show_offsets)  # type: ignore[method-assign]
        case "index":
            generations.add_indexes = dying_after(count, generations.add_indexes)
        case "switch":
            generations.switch = dying_after(count, generations.switch)
        case "hand_over":
            Rebuild._hand_over = dying_after(count, Rebuild._hand_over)  # type: ignore[method-assign]
        case _:
            assert point == "never"


def project(settings: ProjectorSettings, point: str, count: int) -> None:
    """Serve until told to stop, or until the point."""
    configure_logging("victim", "WARNING")
    die_at(point, count)
    sys.exit(run_until_stopped(lambda stopping: serve(settings, stopping)))


def rebuild(settings: ProjectorSettings, name: str, point: str, count: int, processes: int) -> None:
    """Rebuild to the end, or to the point."""
    configure_logging("victim", "WARNING")
    replay.BATCH_RECORDS = replay.LEAST_RECORDS = 1  # type: ignore[misc] # in this process, which dies
    die_at(point, count)

    async def main(stopping: asyncio.Event) -> int:
        operator = as_role(settings.query_database, OPERATOR)
        async with open_database(operator, application="victim") as database:
            work = Rebuild(settings, database, name, stopping, lambda _: None)
            await work.run(pause_before_switch=False, processes=processes)
        return 0

    sys.exit(run_until_stopped(main))


async def start_victim(settings: ProjectorSettings, point: str, count: int = 1) -> Fork:
    """Start one that feeds: it dies `before_commit`, `after_commit` or `never`."""
    return await Fork.start(project, settings, point, count)


async def start_rebuilding_victim(
    settings: ProjectorSettings, name: str, point: str, count: int = 1, processes: int = 1
) -> Fork:
    """Start one that rebuilds: it dies `before_commit`, `after_commit`, before `index`, `switch`, `hand_over`; `never`.

    With more than one of `processes` it has others replay beside it.
    """
    return await Fork.start(rebuild, settings, name, point, count, processes)
