"""A TCP proxy before PostgreSQL that loses a request or a reply when told to, as a network or a crash would."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from chassis.settings import PostgresAddress

CHUNK = 1 << 16


class LossyProxy:
    """Passes everything on, until `lose_reply` or `lose_request` says what is lost, with its connection."""

    def __init__(self, target: PostgresAddress) -> None:
        self.target = target
        self.address = target
        self.lost = asyncio.Event()
        self.refusing = False
        self._requests_left: int | None = None
        self._forward_last = True
        self._goes_silent = False
        self._pairs: set[asyncio.Task[None]] = set()

    def lose_reply(self, number: int) -> None:
        """Lose the reply to the request of this number from now on, the first being 1; it does reach the server."""
        self.lost.clear()
        self._requests_left, self._forward_last, self._goes_silent = number, True, False

    def lose_request(self, number: int) -> None:
        """Lose the request of this number: it never reaches the server."""
        self.lost.clear()
        self._requests_left, self._forward_last, self._goes_silent = number, False, False

    def go_silent(self, number: int, *, forward: bool) -> None:
        """From the request of this number on let nothing through its connection any more, and leave it open."""
        (self.lose_reply if forward else self.lose_request)(number)
        self._goes_silent = True

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["LossyProxy"]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = replace(self.target, server="127.0.0.1", port=server.sockets[0].getsockname()[1])
        try:
            yield self
        finally:
            server.close()
            for pair in self._pairs:
                pair.cancel()
            await asyncio.gather(*self._pairs, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        task = asyncio.current_task()
        assert task is not None
        self._pairs.add(task)
        try:
            await self._pass_on(reader, writer)
        finally:
            self._pairs.discard(task)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(self.target.server, self.target.port)
        losing = asyncio.Event()
        back = asyncio.create_task(self._replies(server_reader, writer, losing))
        try:
            while data := await reader.read(CHUNK):
                if self._is_the_one():
                    losing.set()
                    if not self._forward_last:
                        break
                server_writer.write(data)
                await server_writer.drain()
                if losing.is_set():
                    break
            if losing.is_set():
                self.lost.set()
                if self._goes_silent:
                    while await reader.read(CHUNK):
                        pass
                    return
                # Half-closed: the server does not notice, as it does not notice a client that vanished.
                writer.transport.abort()
                if self._forward_last:
                    await back
        finally:
            back.cancel()
            with suppress(asyncio.CancelledError):
                await back
            for end in (server_writer, writer):
                end.transport.abort()

    def _is_the_one(self) -> bool:
        if self._requests_left is None:
            return False
        self._requests_left -= 1
        if self._requests_left:
            return False
        self._requests_left = None
        return True

    async def _replies(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event) -> None:
        while data := await reader.read(CHUNK):
            if losing.is_set():
                return  # the server has answered, and nobody hears it
            writer.write(data)
            await writer.drain()
        writer.close()
