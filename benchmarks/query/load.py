"""An HTTP/1.1 load generator that costs little itself: prepared request bytes, answers counted by Content-Length.

Closed loop: each of some connections asks again as soon as it is answered (the peak). Open loop: requests are due at
fixed times, and their latency counts from when they were due, so a stall is not hidden by asking less.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

#: Requests that are not answered by then are lost.
LAST_ANSWER_SECONDS = 10.0

Next = Callable[[], bytes]


@dataclass(slots=True)
class Measured:
    """Latencies in seconds of the answers, by status."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.statuses.get(200, 0) / self.seconds

    def percentile(self, part: float) -> float:
        """A latency in seconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


class _Connection(asyncio.Protocol):
    def __init__(self, answered: Callable[["_Connection", int], None]) -> None:
        self.answered = answered
        self.transport: asyncio.Transport
        self.buffer = bytearray()
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no asyncio class.
        self.transport = cast("asyncio.Transport", transport)

    def ask(self, request: bytes, due: float) -> None:
        self.due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self.buffer.find(b"content-length: ")
        length = int(self.buffer[at + 16 : self.buffer.find(b"\r", at)]) if 0 <= at < head else 0
        if len(self.buffer) >= head + 4 + length:
            status = int(self.buffer[9:12])
            self.buffer.clear()
            self.answered(self, status)


def request(path: str, *headers: str) -> bytes:
    """The bytes of a GET."""
    lines = [f"GET {path} HTTP/1.1", "host: 127.0.0.1", "accept: */*", "user-agent: load", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


async def closed_loop(port: int, following: Next, *, connections: int, seconds: float) -> Measured:
    """Ask as fast as the answers come."""
    measured = Measured(seconds)
    over = asyncio.Event()
    end = time.perf_counter() + seconds

    def answered(connection: _Connection, status: int) -> None:
        now = time.perf_counter()
        if now >= end:
            over.set()
            return
        measured.latencies.append(now - connection.due)
        measured.statuses[status] = measured.statuses.get(status, 0) + 1
        connection.ask(following(), now)

    opened = await _connect(port, connections, answered)
    for connection in opened:
        connection.ask(following(), time.perf_counter())
    await over.wait()
    for connection in opened:
        connection.transport.abort()
    return measured


async def open_loop(port: int, following: Next, *, rate: float, connections: int, seconds: float) -> Measured:
    """Ask at a rate; what finds no free connection queues, and its wait counts."""
    measured = Measured(seconds)
    free: deque[_Connection] = deque()
    waiting: deque[float] = deque()

    def answered(connection: _Connection, status: int) -> None:
        measured.latencies.append(time.perf_counter() - connection.due)
        measured.statuses[status] = measured.statuses.get(status, 0) + 1
        if waiting:
            connection.ask(following(), waiting.popleft())
        else:
            free.append(connection)
        if len(measured.latencies) == total:
            over.set()

    total = int(rate * seconds)
    over = asyncio.Event()
    opened = await _connect(port, connections, answered)
    free.extend(opened)
    start = time.perf_counter()
    asked = 0
    while asked < total:
        while asked < total and (due := start + asked / rate) <= time.perf_counter():
            asked += 1
            if free:
                free.popleft().ask(following(), due)
            else:
                waiting.append(due)
        await asyncio.sleep(max(0.0, start + asked / rate - time.perf_counter()))
    with suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), LAST_ANSWER_SECONDS)
    for connection in opened:
        connection.transport.abort()
    return measured


async def _connect(port: int, count: int, answered: Callable[[_Connection, int], None]) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: _Connection(answered), "127.0.0.1", port) for _ in range(count)]
    return [protocol for _, protocol in made]
