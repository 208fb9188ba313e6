"""The query API behind a real uvicorn, in a thread of its own, for clients that are not asynchronous."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn
from starlette.applications import Starlette

from chassis.http.listening import server_config
from chassis.settings import Transport
from tests.waiting import POLL_SECONDS

START_SECONDS = 20.0


@contextmanager
def served(app: Starlette, *, port: int = 0) -> Iterator[str]:
    """Serve until the block ends; gives the base URL once the app is ready."""
    config = server_config(app, Transport(), port=port, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="served", daemon=True)
    thread.start()
    try:
        yield _ready(server)
    finally:
        server.should_exit = True
        thread.join(START_SECONDS)


def _ready(server: uvicorn.Server) -> str:
    ticks = threading.Event()
    for _ in range(int(START_SECONDS / POLL_SECONDS)):
        if server.started:
            port = server.servers[0].sockets[0].getsockname()[1]
            url = f"http://127.0.0.1:{port}"
            if httpx.get(f"{url}/readyz").status_code == 200:
                return url
        ticks.wait(POLL_SECONDS)
    raise AssertionError(f"not ready within {START_SECONDS} s")
