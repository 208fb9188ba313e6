"""The command API as it is served, but for what a bar needs: a fixed string for a hash, or a watch over the loop."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Final

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from benchmarks.population import FIXED_HASH
from cli.serve import command_app

#: Where a watched app tells the longest stall since it was last asked, in milliseconds.
STALL_PATH: Final = "/longest-stall"
#: How often the loop is to come by; a thousandth of the time it is allowed to be late is its own cost.
WATCH_SECONDS: Final = 0.002


class FixedHash:
    """In the place of Passwords."""

    async def hash(self, _: Any) -> str:
        """The same for everybody, at no cost."""
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


def create_watched_app() -> FastAPI:
    """The app as it is served, and a task that notes how late the loop comes by."""
    app = command_app()
    inner = app.router.lifespan_context
    longest = [0.0]

    async def tell(_: Request) -> PlainTextResponse:
        told, longest[0] = longest[0], 0.0
        return PlainTextResponse(f"{told * 1000:.3f}")

    @asynccontextmanager
    async def lifespan(served: FastAPI) -> AsyncIterator[Any]:
        async with inner(served) as state:
            watch = asyncio.create_task(_watch(longest))
            yield state
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    app.router.lifespan_context = lifespan
    app.router.routes.append(Route(STALL_PATH, tell))
    return app


async def _watch(longest: list[float]) -> None:
    while True:
        due = time.perf_counter() + WATCH_SECONDS
        await asyncio.sleep(WATCH_SECONDS)
        longest[0] = max(longest[0], time.perf_counter() - due)
