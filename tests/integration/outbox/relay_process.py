"""A relay in a process of its own that kills itself (SIGKILL) at a named point, the n-th time it gets there.

Usage: relay_process.py SETTINGS_JSON POINT COUNT ("never" as POINT lives on). SIGUSR1 freezes it and its host.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from local_stack.frozen_host import freeze_this_host
from outbox.relay import Relay
from outbox.settings import RelaySettings
from tests.integration.outbox.settings_file import read_settings


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


async def main(settings: RelaySettings, killer: Killer) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_signal_handler(signal.SIGUSR1, freeze_this_host)
    await Relay(settings, reached=killer).run(stopping)


if __name__ == "__main__":
    asyncio.run(main(read_settings(Path(sys.argv[1])), Killer(sys.argv[2], int(sys.argv[3]))))
