"""The door in front of an issuer: everybody who fetches its keys comes through it, and is counted."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass


@dataclass(slots=True)
class Door:
    """How often somebody came; a fetch is one connection, however many requests it has."""

    fetches: int = 0


@asynccontextmanager
async def door(port: int, behind: int) -> AsyncIterator[Door]:
    """Pass on to `behind` what comes to `port`, until the block ends."""
    counted = Door()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counted.fetches += 1
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", behind)
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))
        finally:
            inner_writer.close()
            writer.close()

    async with await asyncio.start_server(pass_on, "127.0.0.1", port):
        yield counted


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
