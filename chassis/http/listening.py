"""The parts that all our listeners have in common: socket, server, and the headers on whatever they answer.

The headers stand here and not in an app, so that they are on the protocol's own refusals as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp

from chassis.access.hosts import Hosts
from chassis.http.health import PROBES, Answers, inner_routes
from chassis.http.loopback import is_loopback
from chassis.http.middleware import LastResort
from chassis.http.transport.connection import HttpConnection
from chassis.http.transport.connections import Connections
from chassis.http.transport.limits import Limits
from chassis.settings import Transport

#: No browser guesses a media type, and no address of ours, which may name a person, reaches another site.
HEADERS: Final = [("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer")]
#: Its answers take `CHECK_SECONDS`; a reader that does not read must not hold a process that is told to stop.
_INNER_GRACE_SECONDS: Final = 3


#: Connections that may wait to be accepted while whoever serves is busy, or is starting.
ACCEPT_BACKLOG: Final = 2048


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on that address; who connects waits until a server accepts it.

    Raises:
        OSError: the address is taken or not ours.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        # Now, and not when its server is ready: until one of them listens, two could bind the same address.
        listening.listen(ACCEPT_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def server_config(app: Any, transport: Transport, **options: Any) -> uvicorn.Config:
    """Configure uvicorn for anything of ours, with `options` of its own; raises this process's limit of open files."""
    return uvicorn.Config(
        app,
        http=partial(HttpConnection, connections=Connections(Limits.of(transport), probes=PROBES)),  # type: ignore[arg-type] # called
        ws="none",
        log_config=None,
        access_log=False,
        headers=HEADERS,
        server_header=False,
        # Nothing here depends on who the client is or which scheme it used.
        proxy_headers=False,
        **options,
    )


class _EmbeddedServer(uvicorn.Server):
    """uvicorn inside a process that handles its signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving_inside(asked: Answers, listening: socket.socket, transport: Transport) -> AsyncIterator[None]:
    """Serve health and metrics on a socket, beside whatever else the loop does, until the block ends."""
    server = _inner_server(asked, listening, transport)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await task
        listening.close()


@contextlib.contextmanager
def serving_inside_from_a_thread(asked: Answers, listening: socket.socket, transport: Transport) -> Iterator[None]:
    """The same in a process that has no loop."""
    server = _inner_server(asked, listening, transport)
    thread = threading.Thread(target=server.run, args=([listening],), name="inner port", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


@contextlib.asynccontextmanager
async def serve_health(asked: Answers, *, host: str, port: int, transport: Transport) -> AsyncIterator[None]:
    """Serve health and metrics beside a loop that is no web application (relay, projectors), until the block ends.

    Raises:
        OSError: the address is taken or not ours.
    """
    async with serving_inside(asked, await asyncio.to_thread(listen, host, port), transport):
        yield


def _inner_server(asked: Answers, listening: socket.socket, transport: Transport) -> uvicorn.Server:
    app: ASGIApp = Starlette(routes=inner_routes(asked, transport.certificate_files))
    if is_loopback(listening.getsockname()[0]):
        # Nobody reaches it but this machine, and on this machine a browser, from pages of anybody's (DNS rebinding).
        app = LastResort(Hosts(app, loopback_only=True), headers=lambda _: {})
    return _EmbeddedServer(
        server_config(app, transport, lifespan="off", timeout_graceful_shutdown=_INNER_GRACE_SECONDS)
    )
