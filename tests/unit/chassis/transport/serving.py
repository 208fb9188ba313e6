"""An app behind our protocol on a real socket, and a client that sends bytes as they are."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from email.message import Message
from email.parser import BytesParser
from functools import partial
from typing import Any, Self

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from chassis.http.listening import server_config
from chassis.http.transport.connection import HttpConnection
from chassis.http.transport.connections import Connections
from chassis.http.transport.limits import Limits
from chassis.settings import Transport
from tests.waiting import until

#: A machine that is ten times slower still answers within it.
PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """One answer as it came."""

    status: int
    headers: Message
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        assert self.headers["content-type"] == "application/problem+json"
        assert self.document["status"] == self.status
        slug: str = self.document["type"].removeprefix("/problems/")
        return slug


class Client:
    """A connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), PATIENCE_SECONDS)

    async def answer(self, method: str = "GET") -> Answer:
        """The next answer, which has a Content-Length or is followed by the end."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
        first, _, rest = head.partition(b"\r\n")
        headers = BytesParser().parsebytes(rest)
        length = headers["content-length"]
        if method == "HEAD":
            body = b""
        elif length is None:
            body = await self.rest()
        else:
            body = await asyncio.wait_for(self.reader.readexactly(int(length)), PATIENCE_SECONDS)
        return Answer(int(first.split()[1]), headers, body)

    async def asks(self, data: bytes) -> Answer:
        await self.send(data)
        return await self.answer()

    async def rest(self) -> bytes:
        """All that still comes; ends when the connection does."""
        return await asyncio.wait_for(self.reader.read(), PATIENCE_SECONDS)

    async def is_over(self) -> bool:
        return await self.rest() == b""

    def stop_sending(self) -> None:
        self.writer.write_eof()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()


@dataclass(frozen=True)
class Listener:
    """A socket on which an app is served."""

    state: ServerState
    connections: Connections
    address: tuple[str, int]

    async def connect(self, *, receive_buffer: int | None = None) -> Client:
        end = socket.socket()
        if receive_buffer:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        end.setblocking(False)
        await asyncio.get_running_loop().sock_connect(end, self.address)
        return Client(*await asyncio.open_connection(sock=end))

    async def answer_to(self, data: bytes) -> Answer:
        async with await self.connect() as client:
            return await client.asks(data)

    async def has_open(self, number: int) -> None:
        async def reached() -> bool:
            return len(self.state.connections) == number

        await until(reached, within=PATIENCE_SECONDS, what=f"{number} connections are open")


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell what came."""
    request = Request(scope, receive)
    told = {
        "method": request.method,
        "path": request.url.path,
        "query": request.url.query,
        "headers": sorted(request.headers.keys()),
        "body": (await request.body()).decode(),
    }
    answer: Response = JSONResponse(told)
    await answer(scope, receive, send)


@asynccontextmanager
async def listening(
    app: ASGIApp = echo, *, app_state: dict[str, Any] | None = None, **limits: float
) -> AsyncIterator[Listener]:
    """Serve until the block ends.

    `limits` are those that differ from the settings' defaults, `app_state` is what the app's lifespan has left.
    """
    config = server_config(app, Transport())
    config.load()
    connections = Connections(replace(Limits.of(Transport()), **limits))  # type: ignore[arg-type] # their own types
    state = ServerState()
    state.default_headers = config.encoded_headers
    made = partial(HttpConnection, config, state, app_state or {}, connections=connections)
    server = await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0)
    listener = Listener(state, connections, server.sockets[0].getsockname()[:2])
    try:
        yield listener
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        await listener.has_open(0)
        for task in state.tasks:
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)
