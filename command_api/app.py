"""The command API as an ASGI application: `create_app` is uvicorn's factory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from fastapi import FastAPI

from chassis.http.api import BODY_BYTES, ApiDescription, create_api, put_in_front
from chassis.http.health import Health, NotReadyError
from chassis.http.overload.admission import AT_ONCE, Admission
from chassis.http.problems import VALIDATION
from chassis.http.protection import Protection
from chassis.identifiers import new_id_text
from chassis.settings import load
from chassis.tracing.process import ProcessTracer
from command_api.access import ACCESS
from command_api.http import credentials, imports, one_time_tokens, openapi, users
from command_api.http.dependencies import CommandResources, open_resources
from command_api.http.errors import answer_with_problems
from command_api.http.event_schemas import schema_route
from command_api.http.fast_path import FastPath
from command_api.http.refused_guesses import RefusedGuesses
from command_api.imports.lines import IMPORT_BYTES
from command_api.passwords.hashing import places
from command_api.passwords.rules import RULES
from command_api.problems import COMMAND_PROBLEMS
from command_api.settings import CommandApiSettings

DESCRIPTION: Final = ApiDescription(
    title="Muster command API",
    summary="Takes commands about users; every accepted one is committed together with the event it leads to.",
    problems=(*COMMAND_PROBLEMS, replace(VALIDATION, remedy=f"{VALIDATION.remedy} {RULES}")),
    body_limit=lambda scope: IMPORT_BYTES if scope["path"] == imports.IMPORT_PATH else BODY_BYTES,
)


def create_app(settings: CommandApiSettings | None = None) -> FastAPI:
    """Make the app; nothing is opened before its lifespan begins.

    Raises:
        SettingsError: the environment lacks a setting, or does not say whose tokens open the API.
    """
    known = settings or load(CommandApiSettings)
    protection = Protection(ACCESS, known, host=known.command_api_host)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_resources(known) as resources:
            app.state.resources = resources
            yield

    async def check_database() -> None:
        # Kafka is not asked: while it is away commands succeed all the same, and the outbox keeps their events.
        opened: CommandResources | None = getattr(app.state, "resources", None)
        if opened is None:
            raise NotReadyError("starting")
        await opened.database.check()

    app = create_api(
        DESCRIPTION,
        lifespan=lifespan,
        health=Health(ready={"database": check_database}),
        protection=protection,
        # As many may wait for a hash, beside those that help: cheap commands do not wait behind them.
        admission=Admission(AT_ONCE + places(threads=known.hashing_concurrency, queue=known.hashing_queue)),
        make_request_id=new_id_text,
        tracer=ProcessTracer.of(known, "command-api"),
        refuses=RefusedGuesses(protection.lets_in_at_once),
    )
    others = list(app.router.routes)
    app.router.routes.clear()
    app.include_router(users.router)
    app.include_router(users.patches)
    app.include_router(imports.router)
    app.include_router(one_time_tokens.router)
    app.include_router(credentials.router)
    # Last, because routes are tried in order, and nearly all requests are commands.
    app.router.routes.extend([*others, schema_route()])
    answer_with_problems(app)
    openapi.complete(app, least_password=known.password_min_length)
    put_in_front(app, partial(FastPath, app, [*users.commands(), *credentials.commands()]))
    return app
