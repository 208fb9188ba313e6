"""The command API as it is served, with one change that a bar needs: a fixed string for a hash, or a watched loop."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from operator import itemgetter
from typing import Any, Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks.population import FIXED_HASH
from chassis.postgres.statements import CompiledStatement
from cli.processes.serve import command_app
from command_api.users import statements

#: Path of a watched app: POST starts watching its loop; DELETE ends it and returns the longest stall in milliseconds.
WATCH_PATH: Final = "/watch"
#: Between two checks of the loop; a check costs a thousandth of the lateness that is allowed.
WATCH_SECONDS: Final = 0.002


class FixedHash:
    """Takes the place of Passwords."""

    async def hash(self, _: Any) -> str:
        """Return the same string for everybody, at no cost."""
        return FIXED_HASH


def create_app() -> FastAPI:
    """The app as it is served, but for the hash.

    Not by `dependency_overrides`: as soon as there is one, FastAPI examines every dependency anew in every request.
    """
    app = command_app()
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(served: FastAPI) -> AsyncIterator[Any]:
        async with inner(served) as state:
            opened = served.state.resources
            served.state.resources = replace(opened, handlers=replace(opened.handlers, passwords=FixedHash()))
            yield state

    app.router.lifespan_context = lifespan
    return app


def create_app_without_outbox() -> FastAPI:
    """Create the app without the outbox: registrations append no event, so the difference is the outbox's cost."""
    # Before the app is made, and only in its process; the store takes the statement from the module each time.
    vars(statements)["REGISTER"] = without_outbox(statements.REGISTER)
    return create_app()


def without_outbox(statement: CompiledStatement) -> CompiledStatement:
    """Return the statement without the part that appends the event."""
    start, end = statement.sql.index("INSERT INTO users"), statement.sql.index(" RETURNING users.id")
    sql = statement.sql[start:end] + " RETURNING users.id"
    names = tuple(name for name in statement.names if name.startswith("user_"))
    for position, name in enumerate(names, start=1):
        sql = sql.replace(f"${statement.names.index(name) + 1}::", f"$#{position}::")
    return replace(statement, sql=sql.replace("$#", "$"), names=names, pick=itemgetter(*names))


def create_watched_app() -> ASGIApp:
    """Create the app as it is served, with a watch over its loop that runs on request, ahead of the guard."""
    app = command_app()
    watch = _Watch()
    watching = Router(
        [Route(WATCH_PATH, watch.begin, methods=["POST"]), Route(WATCH_PATH, watch.end, methods=["DELETE"])]
    )

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        await (watching if scope.get("path") == WATCH_PATH else app)(scope, receive, send)

    return watched


class _Watch:
    """Notes how late the loop runs a task that is due."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._longest = 0.0

    async def begin(self, _: Request) -> Response:
        self._longest = 0.0
        self._task = asyncio.create_task(self._run())
        return Response(status_code=204)

    async def end(self, _: Request) -> Response:
        assert self._task is not None
        self._task.cancel()
        self._task = None
        return PlainTextResponse(f"{self._longest * 1000:.3f}")

    async def _run(self) -> None:
        while True:
            due = time.perf_counter() + WATCH_SECONDS
            await asyncio.sleep(WATCH_SECONDS)
            self._longest = max(self._longest, time.perf_counter() - due)
