"""Whether a process lives and can work: `/health`, `/livez`, `/readyz` and `/metrics`, the same on every process.

Live means that the loop turns (restart me otherwise); ready means that the process can do its work now (send me none
otherwise). A check is an async callable that raises when its answer is no; the exception's message says why.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from chassis import __version__
from chassis.outages import describe
from chassis.telemetry import render_metrics

Check = Callable[[], Awaitable[None]]

#: An orchestrator's probe waits a second or more; a check that takes longer has failed.
CHECK_SECONDS = 2.0


class NotReadyError(Exception):
    """A check's answer is no; the message says why, in one line."""


@dataclass(frozen=True, slots=True)
class Health:
    """The checks of one process, by the name that the answer shows."""

    ready: Mapping[str, Check] = field(default_factory=dict)
    live: Mapping[str, Check] = field(default_factory=dict)

    def routes(self) -> list[Route]:
        """The routes to mount in an app."""
        return [
            Route("/health", _health),
            Route("/livez", self._probe(self.live)),
            Route("/readyz", self._probe(self.ready)),
            Route("/metrics", _metrics),
        ]

    def _probe(self, checks: Mapping[str, Check]) -> Callable[[Request], Awaitable[Response]]:
        async def probe(_: Request) -> Response:
            results = dict(zip(checks, await asyncio.gather(*map(_run, checks.values())), strict=True))
            status = 200 if all(result == "ok" for result in results.values()) else 503
            return _json({"status": "ok" if status == 200 else "failed", "checks": results}, status)

        return probe


class HealthFirst:
    """Answers `GET /health` itself, without the framework's layers; `app` serves everything else."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and scope["path"] == "/health" and scope["method"] == "GET":
            await (await _health(Request(scope)))(scope, receive, send)
        else:
            await self._app(scope, receive, send)


async def _run(check: Check) -> str:
    try:
        await asyncio.wait_for(check(), CHECK_SECONDS)
    except TimeoutError:
        return f"no answer within {CHECK_SECONDS:g} s"
    except Exception as error:  # noqa: BLE001 - whatever a check raises is its answer
        return describe(error)
    return "ok"


async def _health(_: Request) -> Response:
    return _json({"status": "ok", "version": __version__}, 200)


async def _metrics(_: Request) -> Response:
    body, media_type = await asyncio.to_thread(render_metrics)
    return Response(body, media_type=media_type)


def _json(document: object, status: int) -> Response:
    return Response(
        json.dumps(document, separators=(",", ":")),
        status_code=status,
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


class _EmbeddedServer(uvicorn.Server):
    """uvicorn inside a process that handles its signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serve_health(health: Health, *, host: str, port: int) -> AsyncIterator[None]:
    """Serve the health routes beside a loop that is no web application (relay, projectors), until the block ends.

    Raises:
        OSError: the address is taken or not ours.
    """
    app = Starlette(routes=health.routes())
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
    server = _EmbeddedServer(config)
    listening = await asyncio.to_thread(_listen, host, port)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield
    finally:
        server.should_exit = True
        await task
        listening.close()


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
    except OSError:
        listening.close()
        raise
    return listening
