"""The command API with its hash replaced by a fixed string, for the bars that leave the hash out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from fastapi import FastAPI

from benchmarks.population import FIXED_HASH
from cli.serve import command_app


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
