"""A relay that freezes on SIGUSR1 as if its host had frozen; its settings come from the environment."""

import asyncio
import signal

from chassis.lifecycle import run_until_stopped
from chassis.settings import load
from local_stack.processes.frozen_host import freeze_this_host
from outbox.relay.loop import Relay
from outbox.settings import RelaySettings


async def main(stopping: asyncio.Event) -> int:
    """Run the relay until it is told to stop."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, freeze_this_host)
    await Relay(load(RelaySettings)).run(stopping)
    return 0


if __name__ == "__main__":
    run_until_stopped(main)
