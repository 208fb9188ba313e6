"""A relay in a process of its own that kills itself (SIGKILL) at a named point, the n-th time it gets there.

SIGUSR1 freezes it and its host.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from local_stack.processes.frozen_host import freeze_this_host
from outbox.relay.loop import Relay
from outbox.settings import RelaySettings
from tests.forks import Fork

STOP_SECONDS = 20


class Killer:
    """Counts arrivals at the point and kills this process at the last of them."""

    def __init__(self, point: str, count: int) -> None:
        self.point = point
        self.left = count

    async def __call__(self, point: str) -> None:
        if point == self.point:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def relay(settings: RelaySettings, point: str, count: int) -> None:
    """Be a relay until told to stop, or until the point."""
    asyncio.run(_relay(settings, Killer(point, count)))


async def _relay(settings: RelaySettings, killer: Killer) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGUSR1, freeze_this_host)
    await Relay(settings, failpoint=killer).run(stopping)


@asynccontextmanager
async def relay_process(
    settings: RelaySettings, point: str = "never", count: int = 1, *, log: Path | None = None
) -> AsyncIterator[Fork]:
    """A relay process that kills itself at a point; ended at the latest with the block.

    What it writes goes to the file, or where ours goes.
    """
    process = await Fork.start(relay, settings, point, count, out=log, err=log)
    try:
        yield process
    finally:
        process.kill()
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
