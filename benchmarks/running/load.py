"""An HTTP/1.1 load generator that costs little itself: prepared request bytes, answers counted by Content-Length.

Closed loop: each of some connections asks again as soon as it is answered (the peak). Open loop: requests are due at
fixed times, and their latency counts from when they were due, so a stall is not hidden by asking less. Each measurement
states what the generator itself used.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, cast

from benchmarks.reporting.figures import percentile
from benchmarks.running.rounds import NoFigureError, Sample
from local_stack.ports import LOCALHOST

#: A request without an answer this long after the last was due is lost.
LAST_ANSWER_SECONDS: Final = 10.0

#: A closed loop is counted after this at the latest: a server whose pool is smaller than the number of clients may let
#: one of them wait for as long as the others ask.
SETTLE_SECONDS: Final = 0.5

#: At high rates requests are sent so often, those that have become due meanwhile at once.
TICK_SECONDS: Final = 0.002

Next = Callable[[], bytes]


class BadAnswersError(Exception):
    """Unexpected answers came, so the measurement means nothing."""


@dataclass(slots=True)
class Measured:
    """Latencies in seconds of the answers; `lost` are those that never came, `cost` the generator's CPU per answer."""

    seconds: float
    latencies: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    lost: int = 0
    cost: float = 0.0
    #: Latencies of those answers that are no refusals, and how many of them came in the `seconds` that count.
    accepted: list[float] = field(default_factory=list)
    served: int = 0

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.latencies) / self.seconds

    def percentile(self, part: float) -> float:
        """Return a percentile of the latencies, in seconds."""
        return percentile(self.latencies, part)

    def sample(self) -> Sample:
        """Return the rate, with latencies and the generator's cost in seconds."""
        parts = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
        latencies = {name: self.percentile(part) for name, part in parts.items()}
        return Sample(self.rate, {**latencies, "cost": self.cost})


class _Connection(asyncio.Protocol):
    def __init__(self, answered: Callable[["_Connection", int], None]) -> None:
        self.answered = answered
        self.transport: asyncio.Transport
        self.buffer = bytearray()
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are of no asyncio class.
        self.transport = cast("asyncio.Transport", transport)

    @property
    def is_open(self) -> bool:
        """Whether the server has not ended it."""
        return not self.transport.is_closing()

    def ask(self, request: bytes, due: float) -> None:
        self.due = due
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        fields = self.buffer[: head + 2].lower()
        at = fields.find(b"content-length: ")
        length = int(fields[at + 16 : fields.find(b"\r", at)]) if at >= 0 else 0
        # What comes in chunks ends with an empty one.
        chunked = b"transfer-encoding: chunked" in fields
        if self.buffer.endswith(b"\r\n0\r\n\r\n") if chunked else len(self.buffer) >= head + 4 + length:
            status = int(self.buffer[9:12])
            self.buffer.clear()
            self.answered(self, status)


def request(path: str, *headers: str, method: str = "GET", document: Any = None) -> bytes:
    """Return the bytes of a request, with a JSON body where there is a document."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {LOCALHOST}", "accept: */*", "user-agent: load", *headers]
    body = b""
    if document is not None:
        body = json.dumps(document).encode()
        lines += ["content-type: application/json", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def closed_loop(
    port: int, following: Next, *, connections: int, seconds: float, good: Iterable[int] = (200,)
) -> Measured:
    """Ask as fast as the answers come; counted from when every connection has had its first one, or SETTLE_SECONDS on.

    Raises:
        BadAnswersError: one of them had another status than the `good` ones.
        NoFigureError: none came.
    """
    measured = Measured(seconds)
    over = asyncio.Event()
    strangers: set[_Connection] = set()
    cpu = end = 0.0

    def answered(connection: _Connection, status: int) -> None:
        nonlocal cpu, end
        now = time.perf_counter()
        if not end:
            strangers.discard(connection)
            if not strangers or now >= start + SETTLE_SECONDS:
                cpu, end = time.process_time(), now + seconds
            connection.ask(following(), now)
            return
        if now >= end:
            over.set()
            return
        measured.latencies.append(now - connection.due)
        measured.statuses[status] = measured.statuses.get(status, 0) + 1
        connection.ask(following(), now)

    opened = await _connect(port, connections, answered)
    strangers.update(opened)
    start = time.perf_counter()
    for connection in opened:
        connection.ask(following(), start)
    with suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), SETTLE_SECONDS + seconds + LAST_ANSWER_SECONDS)
    return _finish(measured, opened, cpu, good)


async def open_loop(  # noqa: PLR0913 - a load has these parts
    port: int,
    following: Next,
    *,
    rate: float,
    connections: int,
    seconds: float,
    settle: float = 0.0,
    good: Iterable[int] = (200,),
    when_connected: Callable[[], Awaitable[None]] | None = None,
) -> Measured:
    """Ask at a rate, once `when_connected` has ended; what finds no free connection queues, and its wait counts.

    `served` counts from `settle` seconds on, which are asked for beside the others: at first a process under overload
    fills its queue, and has nothing to show for that work.

    Raises:
        BadAnswersError: one of them had another status than the `good` ones.
        NoFigureError: none came.
    """
    measured = Measured(seconds)
    free: deque[_Connection] = deque()
    waiting: deque[float] = deque()

    def answered(connection: _Connection, status: int) -> None:
        now = time.perf_counter()
        measured.latencies.append(now - connection.due)
        measured.statuses[status] = measured.statuses.get(status, 0) + 1
        if status < 300:
            measured.accepted.append(now - connection.due)
            measured.served += counted <= now < counted + seconds
        if waiting:
            connection.ask(following(), waiting.popleft())
        else:
            free.append(connection)
        if len(measured.latencies) == total:
            over.set()

    total = max(1, int(rate * (settle + seconds)))
    over = asyncio.Event()
    opened = await _connect(port, connections, answered)
    free.extend(opened)
    if when_connected:
        await when_connected()
    cpu, start = time.process_time(), time.perf_counter()
    counted = start + settle
    asked = 0
    # To wake up for each of thousands would cost the generator more than to ask.
    tick = TICK_SECONDS if rate * TICK_SECONDS > 1 else 0.0
    while asked < total:
        while asked < total and (due := start + asked / rate) <= time.perf_counter():
            asked += 1
            # A server may end a connection on which nothing came; its requests wait for another.
            while free and not free[0].is_open:
                free.popleft()
            if free:
                free.popleft().ask(following(), due)
            else:
                waiting.append(due)
        await asyncio.sleep(max(tick, start + asked / rate - time.perf_counter()))
    with suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), LAST_ANSWER_SECONDS)
    measured.lost = total - len(measured.latencies)
    return _finish(measured, opened, cpu, good)


def _finish(measured: Measured, opened: list[_Connection], cpu: float, good: Iterable[int]) -> Measured:
    measured.cost = (time.process_time() - cpu) / max(1, len(measured.latencies))
    for connection in opened:
        connection.transport.abort()
    if not measured.latencies:
        raise NoFigureError("no answer came")
    if not set(measured.statuses) <= set(good):
        raise BadAnswersError(f"expected answers of {sorted(good)} and got {measured.statuses}")
    return measured


async def _connect(port: int, count: int, answered: Callable[[_Connection, int], None]) -> list[_Connection]:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(lambda: _Connection(answered), LOCALHOST, port) for _ in range(count)]
    return [protocol for _, protocol in made]
