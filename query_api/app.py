"""The query API as an ASGI application: `create_app` is uvicorn's factory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Final

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import Scope

from chassis.clock import utc_now
from chassis.http.api import ApiDescription, create_api, put_in_front
from chassis.http.health import Health
from chassis.identifiers import new_id_text
from chassis.settings import load
from query_api import openapi
from query_api.dependencies import Resources, open_resources
from query_api.endpoint import Endpoint
from query_api.fast_path import Front
from query_api.protocol.problems import PROBLEMS
from query_api.settings import QueryApiSettings
from query_api.users import detail as user_detail
from query_api.users import listing as user_list
from query_api.users import signups
from query_api.users import timeline as user_timeline

#: The most frequent first: routes are tried in order.
QUERIES = (user_list, user_detail, user_timeline, signups)


def _route(query: Any) -> Route:
    return Route(query.PATH, Endpoint(query.answer, projection=query.PROJECTION), methods=["GET"])


_ROUTES: Final = [_route(query) for query in QUERIES]


def _headers(scope: Scope) -> dict[str, str]:
    """What an answer of a query carries, where its endpoint was not reached: a body too large, a bug."""
    resources = _resources(scope["app"])
    for route in _ROUTES:
        if route.path_regex.match(scope["path"]):
            assert isinstance(route.endpoint, Endpoint)
            return route.endpoint.headers(resources)
    return {}


DESCRIPTION = ApiDescription(
    title="Muster query API",
    summary="Reads users: page by page, as fresh as you ask for, never silently stale.",
    problems=PROBLEMS,
    headers=_headers,
)


def create_app(settings: QueryApiSettings | None = None, *, now: Callable[[], datetime] = utc_now) -> FastAPI:
    """Make the app; nothing is opened before its lifespan begins.

    Raises:
        SettingsError: the environment does not say what is needed (only where `settings` is not given).
    """
    known = settings or load(QueryApiSettings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_resources(known, now=now) as resources:
            app.state.resources = resources
            yield

    async def database_answers() -> None:
        await _resources(app).reader.check()

    async def generations_serve() -> None:
        await _resources(app).serving.check()

    app = create_api(
        DESCRIPTION,
        lifespan=lifespan,
        health=Health(ready={"database": database_answers, "generations": generations_serve}),
        cors_origins=known.cors_origins,
        make_request_id=new_id_text,
    )
    document = openapi.build(title=DESCRIPTION.title, summary=DESCRIPTION.summary)
    app.openapi = lambda: document  # type: ignore[method-assign] # FastAPI's documented way to bring one's own
    # The app's as well, for its list of routes and for 405.
    app.router.routes[:0] = _ROUTES
    put_in_front(app, partial(Front, _ROUTES))
    return app


def _resources(app: FastAPI) -> Resources:
    resources: Resources = app.state.resources
    return resources
