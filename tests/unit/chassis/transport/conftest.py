"""The loop that processes of ours run in: its transports are not those of the standard library."""

import asyncio
from collections.abc import Callable, Mapping

from chassis.lifecycle import new_event_loop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"as served": new_event_loop}
