"""Clients of the event API that cost little themselves: they take what comes, and note when which event did."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, cast

from benchmarks.running.load import request
from local_stack.ports import LOCALHOST

_EVENT: Final = re.compile(rb'data: \{"id":"([0-9a-f-]{36})"')
#: So many connect at once: more would overrun the queue of a listening socket.
AT_ONCE: Final = 50
CONNECT_SECONDS: Final = 60.0

Came = Callable[[bytes, float], None]


class StreamClient(asyncio.Protocol):
    """One stream; `came` is told the id of each event, and when."""

    def __init__(self, came: Came) -> None:
        """Nothing has come yet."""
        self.transport: asyncio.Transport
        #: Set by the first id, which says that the stream has begun.
        self.begun = asyncio.Event()
        self.caught_up = asyncio.Event()
        self.lost = False
        self._came, self._rest = came, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        # uvloop's transports are of no asyncio class.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take note of whole lines; what is left of the last one comes with the next."""
        now = time.perf_counter()
        whole, _, rest = (self._rest + data).rpartition(b"\n")
        self._rest = rest
        if not self.begun.is_set() and b"\nid: " in whole:
            self.begun.set()
        for event in _EVENT.finditer(whole):
            self._came(event.group(1), now)
        if b"event: caught-up" in whole:
            self.caught_up.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """The event API has ended it, or we have."""
        del exc
        self.lost = True


@asynccontextmanager
async def streaming(port: int, paths: Sequence[str], came: Came) -> AsyncIterator[list[StreamClient]]:
    """One client for each path, all of which have begun, until the block ends."""
    loop, clients, turns = asyncio.get_running_loop(), list[StreamClient](), asyncio.Semaphore(AT_ONCE)

    async def connect(path: str) -> None:
        async with turns:
            _, client = await loop.create_connection(lambda: StreamClient(came), LOCALHOST, port)
            clients.append(client)
            client.transport.write(request(path, "accept: text/event-stream"))
            await client.begun.wait()

    try:
        async with asyncio.timeout(CONNECT_SECONDS), asyncio.TaskGroup() as group:
            for path in paths:
                group.create_task(connect(path))
        yield clients
    finally:
        for client in clients:
            client.transport.abort()
