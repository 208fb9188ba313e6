"""An HTTP client for journeys: some keep-alive connections, one request after the other on each, headers as they came.

Each request costs some tens of microseconds here, a fraction of what it costs the server; a client of a library costs
more than the server.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, cast

from local_stack.ports import LOCALHOST

#: uvicorn closes a connection that was idle for 5 s.
IDLE_SECONDS: Final = 3.0
#: Longer than the longest wait for consistency that is asked for; a request without an answer by then is lost.
ANSWER_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's status, and its headers as bytes."""

    status: int
    head: bytes

    def header(self, name: bytes) -> bytes:
        """Return the value of a header, whose name is in lower case; empty where it is missing."""
        at = self.head.find(b"\r\n" + name + b": ")
        return self.head[at + len(name) + 4 : self.head.find(b"\r\n", at + 2)] if at >= 0 else b""


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.buffer = bytearray()
        self.answer: asyncio.Future[Answer] | None = None
        self.used = 0.0

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
    """A limited number of connections to one server; a request that finds none free waits for one."""

    def __init__(self, port: int, connections: int) -> None:
        """No connection is open yet."""
        self._port = port
        self._free: list[_Connection] = []
        self._places = asyncio.Semaphore(connections)

    async def ask(self, request: bytes) -> Answer:
        """Send a request and give its answer.

        Raises:
            TimeoutError: none came within ANSWER_SECONDS.
            OSError: the connection broke.
        """
        async with self._places, asyncio.timeout(ANSWER_SECONDS):
            connection = self._rested() or await self._open()
            try:
                connection.answer = asyncio.get_running_loop().create_future()
                connection.transport.write(request)
                answer = await connection.answer
            except BaseException:
                # It is not used again, since its answer may still arrive.
                connection.transport.abort()
                raise
            connection.used = time.monotonic()
            self._free.append(connection)
        return answer

    def _rested(self) -> _Connection | None:
        """Return a free connection that the server has not closed for being idle, and is not about to close."""
        while self._free:
            connection = self._free.pop()
            if not connection.transport.is_closing() and time.monotonic() - connection.used < IDLE_SECONDS:
                return connection
            connection.transport.abort()
        return None

    async def _open(self) -> _Connection:
        _, connection = await asyncio.get_running_loop().create_connection(_Connection, LOCALHOST, self._port)
        return connection

    def close(self) -> None:
        """Close all connections."""
        for connection in self._free:
            connection.transport.abort()


@contextmanager
def connected(port: int, connections: int) -> Iterator[Client]:
    """Yield a client of a server on this machine."""
    client = Client(port, connections)
    try:
        yield client
    finally:
        client.close()
