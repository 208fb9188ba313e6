"""A TCP proxy on one link between a process and a server, which delays, stalls, cuts, half-closes and drops.

Before Kafka it also writes its own port for the broker's into every answer, because clients go where the broker says
that it listens; all that Kafka sends are frames with their length in front.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final, Self

from local_stack.ports import LOCALHOST

CHUNK: Final = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class _Pair:
    """A client's connection, and ours to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    def abort(self) -> None:
        for end in (self.client, self.server):
            end.transport.abort()


class Link:
    """Passes everything on, but for what it is told."""

    def __init__(self, target: int, *, frames: bool = False) -> None:
        """`target` is a port of 127.0.0.1; `frames` for Kafka."""
        self._target = target
        self._frames = frames
        self.port = 0
        #: Seconds that each piece waits, in either direction.
        self.delay = 0.0
        #: Whether new connections are ended at once.
        self.refusing = False
        self._flows = asyncio.Event()
        self._flows.set()
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Self]:
        """Listen on a port of its own until the block ends."""
        server = await asyncio.start_server(self._accept, LOCALHOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            # Whoever was accepted just now has not begun yet; and transports that are aborted close in the next turn.
            await asyncio.sleep(0)
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)

    def stall(self) -> None:
        """Let nothing through; connections stay open."""
        self._flows.clear()

    def flow(self) -> None:
        """Let through what has waited, and all that comes."""
        self._flows.set()

    def cut(self) -> None:
        """End every connection, without a word."""
        for pair in list(self._pairs):
            pair.abort()

    def half_close(self) -> None:
        """Say on every connection to the client that nothing more will come from the server, and go on listening."""
        for pair in self._pairs:
            with suppress(OSError, RuntimeError):  # it is closing already
                pair.client.write_eof()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there_reader, there = await asyncio.open_connection(LOCALHOST, self._target)
        except OSError:
            writer.transport.abort()
            self._tasks.discard(task)
            return
        except BaseException:
            writer.transport.abort()
            raise
        pair = _Pair(writer, there)
        self._pairs.add(pair)
        back = asyncio.create_task(self._answers(there_reader, writer))
        forth = asyncio.create_task(self._pass_on(reader, there))
        try:
            await asyncio.wait({back, forth}, return_when=asyncio.FIRST_COMPLETED)
            # The other direction may have something left, unless it is stuck.
            await asyncio.wait({back, forth}, timeout=1.0)
        finally:
            # Before anything is awaited, which may be cancelled.
            pair.abort()
            self._pairs.discard(pair)
            for direction in (back, forth):
                direction.cancel()
            await asyncio.gather(back, forth, return_exceptions=True)
            self._tasks.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._write(writer, data)

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._frames:
            await self._pass_on(reader, writer)
            return
        theirs, ours = (LOCALHOST.encode() + port.to_bytes(4) for port in (self._target, self.port))
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                length = await reader.readexactly(4)
                frame = await reader.readexactly(int.from_bytes(length))
                await self._write(writer, length + frame.replace(theirs, ours))

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        await self._flows.wait()
        if writer.is_closing():
            raise ConnectionResetError
        writer.write(data)
        await writer.drain()
