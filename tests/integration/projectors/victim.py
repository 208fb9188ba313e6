"""A projectors process of its own, which kills itself (SIGKILL) at a point, the n-th time it gets there."""

import os
import signal
import sys
from typing import Any

from chassis.lifecycle import run
from chassis.telemetry import configure_logging
from projectors.app import serve
from projectors.consumer import parking
from projectors.consumer.feed import Feed
from projectors.settings import ProjectorSettings
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


def project(settings: ProjectorSettings, point: str, count: int) -> None:
    """Serve until told to stop, or until the point."""
    configure_logging("victim", "WARNING")
    match point:
        case "before_commit":
            # The last thing in a batch's transaction.
            parking.park = dying_after(count, parking.park)
        case "after_commit":
            # The first thing after it.
            Feed._show_offsets = dying_after(count, Feed._show_offsets)  # type: ignore[method-assign]
        case _:
            assert point == "never"
    sys.exit(run(lambda stopping: serve(settings, stopping)))


async def start_victim(settings: ProjectorSettings, point: str, count: int = 1) -> Fork:
    """Start one: it dies `before_commit`, `after_commit` or `never`."""
    return await Fork.start(project, settings, point, count)
