"""A process with few files, under those who want all of them and its memory."""

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import psutil
import pytest

from chassis.http.health import Health
from chassis.http.listening import serve_health
from chassis.http.transport.limits import OTHER_FILES
from chassis.lifecycle import new_event_loop
from chassis.settings import Transport
from local_stack.ports import LOCALHOST, free_port
from tests.forks import Fork
from tests.unit.chassis.transport.greedy import (
    GET,
    MIB,
    Memory,
    send_endless_heads,
    send_line_ends,
    send_without_a_pause,
)
from tests.unit.chassis.transport.serving import Client
from tests.waiting import until

FILES = 1024
PATIENCE_SECONDS = 60
HALF = b"POST /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf"


def serve(port: int) -> None:
    """Be a process with a low soft limit of files and few altogether, that serves its health."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, FILES))

    async def forever() -> None:
        async with serve_health(Health(), host=LOCALHOST, port=port, transport=Transport()):
            await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(forever())


@pytest.fixture
async def process(tmp_path: Path) -> AsyncIterator[tuple[Fork, int, Path]]:
    port, lines = free_port(), tmp_path / "lines"
    forked = await Fork.start(serve, port, err=lines)

    async def answers() -> bool:
        try:
            return await is_served(port)
        except OSError:
            return False

    try:
        await until(answers, within=PATIENCE_SECONDS, what="the process answers")
        yield forked, port, lines
    finally:
        forked.kill()
        await forked.wait()


async def connect(port: int) -> Client:
    return Client(*await asyncio.open_connection(LOCALHOST, port))


async def is_served(port: int) -> bool:
    async with await connect(port) as client:
        return (await client.asks(GET)).status == 200


async def test_others_are_served_whatever_idle_and_greedy_clients_do(process: tuple[Fork, int, Path]) -> None:
    forked, port, _ = process
    memory = Memory(forked.pid)
    async with AsyncExitStack() as stack, memory.watched():
        for number in range(1100):
            client = await stack.enter_async_context(await connect(port))
            await client.send((b"", GET[:-2], HALF)[number % 3])
        assert await is_served(port)
        assert psutil.Process(forked.pid).num_fds() <= (FILES - OTHER_FILES) // 2 + OTHER_FILES
        await send_endless_heads(partial(connect, port))
        await send_line_ends(partial(connect, port), HALF.partition(b"Content-Length")[0])
        await send_without_a_pause(partial(connect, port), partial(is_served, port))

    assert memory.grown <= 50 * MIB
