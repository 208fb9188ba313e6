"""Clients that send what costs a server most for what it costs them, for as long as they are let.

`python -m benchmarks.overload.greedy PORT` is their process, until its input ends. In the loop of whoever asks for
/health beside them they would delay the questions more than the server does.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from chassis.lifecycle import alongside, new_event_loop
from local_stack.ports import LOCALHOST

#: Of each kind; the load generator's cores are shared with PostgreSQL.
CLIENTS: Final = 4
_KIB: Final = 1024
_HOST: Final = b"Host: localhost\r\n"
_GET: Final = b"GET /health HTTP/1.1\r\n" + _HOST + b"\r\n"
_LONG_HEAD: Final = b"GET /health HTTP/1.1\r\n" + _HOST + b"X-Many: 1\r\n" * (16 * _KIB)
_CHUNKED: Final = b"POST /health HTTP/1.1\r\n" + _HOST + b"Transfer-Encoding: chunked\r\n\r\n"
_OF_LINE_ENDS: Final = b"%x\r\n%b\r\n" % (256 * _KIB, b"\r\n" * (128 * _KIB))
_SMALL: Final = b"2\r\n\r\n\r\n" * (32 * _KIB)
_BEGUN: Final = "they come\n"

Greedy = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def greedy_clients(port: int) -> AsyncIterator[None]:
    """Have them there while the block lasts: heads that are too long, requests without a pause, odd chunks."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.overload.greedy", str(port), stdin=pipe, stdout=pipe
    )
    assert process.stdin
    assert process.stdout
    try:
        if await process.stdout.readline() != _BEGUN.encode():
            raise RuntimeError("the greedy clients did not begin")
        yield
        if process.returncode is not None:
            raise RuntimeError("the greedy clients ended too early")
    finally:
        process.stdin.close()
        await process.wait()


async def main(port: int) -> None:
    """Be greedy until the input ends."""
    kinds: tuple[Greedy, ...] = (_heads, _pipeline, _chunks)
    async with alongside(*(_again_and_again(kind, port) for kind in kinds for _ in range(CLIENTS))):
        sys.stdout.write(_BEGUN)
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


async def _again_and_again(kind: Greedy, port: int) -> None:
    while True:
        # Who is refused is cut off sooner or later, and comes again.
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection(LOCALHOST, port)
            try:
                await kind(reader, writer)
            finally:
                writer.transport.abort()


async def _heads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_LONG_HEAD)
    await reader.readuntil(b"\r\n\r\n")


async def _pipeline(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async with alongside(_pass_over(reader)):
        while True:
            writer.write(_GET * _KIB)
            await writer.drain()


async def _chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_CHUNKED)
    async with alongside(_pass_over(reader)):
        while True:
            writer.write(_OF_LINE_ENDS + _SMALL)
            await writer.drain()


async def _pass_over(reader: asyncio.StreamReader) -> None:
    while await reader.read(64 * _KIB):
        pass


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
