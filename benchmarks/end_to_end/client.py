"""An HTTP client for journeys: some keep-alive connections, one request after the other on each, headers as they came.

Each request costs some tens of microseconds here, a fraction of what it costs the server; a client of a library costs
more than the server.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast

from local_stack.ports import LOCALHOST

#: A request that is not answered by then never is: beyond the longest wait for consistency that is asked for.
ANSWER_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, and the headers as bytes."""

    status: int
    head: bytes

    def header(self, name: bytes) -> bytes:
        """The value of a header, named in small letters; empty where it is missing."""
        at = self.head.find(b"\r\n" + name + b": ")
        return self.head[at + len(name) + 4 : self.head.find(b"\r\n", at + 2)] if at >= 0 else b""


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.buffer = bytearray()
        self.answer: asyncio.Future[Answer] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no asyncio class.
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer and not self.answer.done():
            self.answer.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        answer = Answer(int(self.buffer[9:12]), bytes(self.buffer[: end + 2]))
        if len(self.buffer) >= end + 4 + int(answer.header(b"content-length") or 0):
            self.buffer.clear()
            if self.answer and not self.answer.done():
                self.answer.set_result(answer)


class Client:
    """Connections to one server; who finds none free waits for one."""

    def __init__(self, connections: list[_Connection]) -> None:
        """All of them are free."""
        self._free: asyncio.LifoQueue[_Connection] = asyncio.LifoQueue()
        for connection in connections:
            self._free.put_nowait(connection)

    async def ask(self, request: bytes) -> Answer:
        """Send a request and give its answer.

        Raises:
            TimeoutError: none came within ANSWER_SECONDS.
            OSError: the connection broke.
        """
        connection = await self._free.get()
        connection.answer = asyncio.get_running_loop().create_future()
        connection.transport.write(request)
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await connection.answer
        # One whose answer did not come is not used again: it may still come.
        self._free.put_nowait(connection)
        return answer


@asynccontextmanager
async def connected(port: int, connections: int) -> AsyncIterator[Client]:
    """A client of a server on this machine."""
    loop = asyncio.get_running_loop()
    opened = [(await loop.create_connection(_Connection, LOCALHOST, port))[1] for _ in range(connections)]
    try:
        yield Client(opened)
    finally:
        for connection in opened:
            connection.transport.abort()
