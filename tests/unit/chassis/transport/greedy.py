"""Clients that want all of a process: heads and bodies without an end, requests without a pause; and its memory."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import psutil

from chassis.lifecycle import alongside
from tests.unit.chassis.transport.serving import PATIENCE_SECONDS, Client

MIB = 1024 * 1024
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
#: What one connection sends of them, and how many are answered while others are served.
PIPELINED = 16 * MIB // len(GET)
ANSWERED = 20_000
#: Short beside the time in which a process could take tens of megabytes and give them back.
SAMPLE_SECONDS = 0.002

Connect = Callable[[], Awaitable[Client]]


class Memory:
    """The resident memory of a process, from when it was first looked at."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._before = self.most = self._process.memory_info().rss

    @property
    def grown(self) -> int:
        """The most by which it was larger."""
        return self.most - self._before

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        async with alongside(self._watch()):
            yield
        self._look()

    def _look(self) -> None:
        self.most = max(self.most, self._process.memory_info().rss)

    async def _watch(self) -> None:
        while True:
            self._look()
            await asyncio.sleep(SAMPLE_SECONDS)


async def send_endless_heads(connect: Connect) -> None:
    """One field, and millions of fields."""
    for greedy in (GET[:-2] + b"X-Long: " + b"x" * 64 * MIB, GET[:-2] + b"X-Many: 1\r\n" * (4 * MIB)):
        async with await connect() as client:
            assert (await client.asks(greedy)).status == 431


async def send_line_ends(connect: Connect, head: bytes) -> int:
    """A body of 16 MiB in one chunk, of what ends a head; gives the status of its answer."""
    async with await connect() as client:
        chunk = b"%x\r\n%b\r\n" % (16 * MIB, b"\r\n" * 8 * MIB)
        answer = await client.asks(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\n\r\n")
        return answer.status


async def send_without_a_pause(connect: Connect, is_served: Callable[[], Awaitable[bool]]) -> None:
    """A pipeline, of whose answers all are read as they come; others are served meanwhile."""
    async with await connect() as client:
        sending = asyncio.create_task(client.send(GET * PIPELINED))
        for _ in range(100):
            await _read_answers(client, ANSWERED // 100)
            assert await is_served()
        sending.cancel()


async def _read_answers(client: Client, number: int) -> None:
    begins, rest = b"HTTP/1.1 200 ", b""
    while number > 0:
        data = rest + await asyncio.wait_for(client.reader.read(256 * 1024), PATIENCE_SECONDS)
        assert len(data) > len(rest), "the connection has ended"
        number -= data.count(begins)
        rest = data[1 - len(begins) :]  # shorter than one, so that none is counted twice
