"""The command API as an ASGI application: `create_app` is uvicorn's factory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from fastapi import FastAPI

from chassis.http.api import BODY_BYTES, ApiDescription, create_api, put_in_front
from chassis.http.health import Health, NotReadyError
from chassis.identifiers import new_id_text
from chassis.settings import load
from command_api.http import imports as import_routes
from command_api.http import openapi
from command_api.http import users as routes
from command_api.http.dependencies import Resources, open_resources
from command_api.http.errors import PROBLEMS, answer_with_problems
from command_api.http.event_schemas import schema_route
from command_api.http.fast_path import Front
from command_api.imports import lines as imports
from command_api.settings import CommandApiSettings

DESCRIPTION: Final = ApiDescription(
    title="Muster command API",
    summary="Takes commands about users; every accepted one is committed together with the event it leads to.",
    problems=PROBLEMS,
    body_limit=lambda scope: imports.BYTES if scope["path"] == import_routes.PATH else BODY_BYTES,
)


def create_app(settings: CommandApiSettings | None = None) -> FastAPI:
    """Make the app; nothing is opened before its lifespan begins.

    Raises:
        SettingsError: the environment does not say what is needed (only where `settings` is not given).
    """
    known = settings or load(CommandApiSettings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_resources(known) as resources:
            app.state.resources = resources
            yield

    async def database_answers() -> None:
        # Only the database: while Kafka is away commands succeed all the same, and the outbox keeps their events.
        opened: Resources | None = getattr(app.state, "resources", None)
        if opened is None:
            raise NotReadyError("starting")
        await opened.database.check()

    app = create_api(
        DESCRIPTION,
        lifespan=lifespan,
        health=Health(ready={"database": database_answers}),
        cors_origins=known.cors_origins,
        make_request_id=new_id_text,
    )
    others = list(app.router.routes)
    app.router.routes.clear()
    app.include_router(routes.router)
    app.include_router(routes.patches)
    app.include_router(import_routes.router)
    # Last, because routes are tried in order, and commands are what is asked for.
    app.router.routes.extend([*others, schema_route()])
    answer_with_problems(app)
    openapi.complete(app)
    put_in_front(app, partial(Front, app, [*routes.commands()]))
    return app
