"""A client of the stream has each event once, however its streams end, and what it lacks or has twice is counted."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from local_stack.ports import LOCALHOST
from tests.upgrade.follower import Follower
from tests.waiting import until

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
ANN = str(UUID(int=1))


def event(version: int) -> bytes:
    """A version of a user, at the position of that number."""
    data = json.dumps({"user_id": ANN, "version": version})
    return f"event: muster.user.registered.v1\ndata: {data}\nid: {version}\n\n".encode()


@asynccontextmanager
async def served(*streams: bytes) -> AsyncIterator[tuple[str, list[str]]]:
    """An event API that sends one after the other and ends each; and after which position it was asked for each."""
    asked: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        asked.append(head.partition("last-event-id: ")[2].partition("\r\n")[0])
        writer.write(HEAD + (streams[len(asked) - 1] if len(asked) <= len(streams) else b""))
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(handle, LOCALHOST, 0) as server:
        yield f"http://{LOCALHOST}:{server.sockets[0].getsockname()[1]}", asked


async def followed(*streams: bytes) -> tuple[Follower, list[str]]:
    """A client that has been given all of them."""
    async with served(*streams) as (url, asked):
        follower = Follower(lambda: [url], {})
        async with follower.following():

            async def is_over() -> bool:
                return len(asked) > len(streams)

            await until(is_over, within=20, what="the client to have come back for each")
        return follower, asked


async def test_it_comes_back_after_the_last_event_that_it_has_whole() -> None:
    follower, asked = await followed(event(1) + b"event: x\nid: 2\n", event(2))
    found = await follower.compared({ANN: 2})

    assert asked[:3] == ["", "1", "2"]
    assert (follower.events, found.lost, found.repeated, found.inverted) == (2, 0, 0, 0)


async def test_what_is_missed_or_comes_twice_is_counted() -> None:
    follower, _ = await followed(event(1) + event(3), event(3))
    found = await follower.compared({})

    assert (found.lost, found.repeated) == (1, 1)
