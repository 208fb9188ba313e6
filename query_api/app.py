"""The query API as an ASGI application: `create_app` is uvicorn's factory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Final

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from chassis.clock import utc_now
from chassis.http.access_document import declare_access
from chassis.http.api import ApiDescription, create_api, put_in_front
from chassis.http.health import Health
from chassis.http.overload.admission import AT_ONCE, Admission
from chassis.http.protection import Protection
from chassis.identifiers import new_id_text
from chassis.settings import load
from chassis.tracing.process import ProcessTracer
from query_api import openapi
from query_api.access import ACCESS
from query_api.dependencies import QUERIES, QueryResources, open_resources
from query_api.endpoint import Endpoint
from query_api.protocol.problems import QUERY_PROBLEMS
from query_api.settings import QueryApiSettings

_ROUTES: Final = [Route(query.path, Endpoint(query), methods=[query.method]) for query in QUERIES]


class QueryFastPath:
    """Serves the queries ahead of the web framework's own layers, and gives every other request to the framework.

    Those layers (error pages, exception handlers, exit stacks, the router) cost 20 microseconds a request, a seventh of
    a page. A query needs none of them: its endpoint explains every refusal itself. What the app's description puts
    around every request (ids, CORS, stray exceptions, the body limit) is around the queries, too.

    A route's own `matches` costs 5 to 10 microseconds, 5 % of a page. So a path without parameters is looked up, and
    only other paths are matched by pattern.
    """

    def __init__(self, routes: Sequence[Route], framework: ASGIApp) -> None:
        """Serve `routes`, whatever the method: their endpoints refuse the methods that they do not take."""
        self._by_path = {route.path: route.app for route in routes if not route.param_convertors}
        self._patterns = [(route.path_regex, route.app) for route in routes if route.param_convertors]
        self._framework = framework

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one connection."""
        query = self._find(scope) if scope["type"] == "http" else None
        return (query or self._framework)(scope, receive, send)

    def _find(self, scope: Scope) -> ASGIApp | None:
        path = scope["path"]
        query = self._by_path.get(path)
        if query is None:
            for pattern, candidate in self._patterns:
                if found := pattern.match(path):
                    scope["path_params"] = found.groupdict()
                    return candidate
        return query


def _headers(scope: Scope) -> dict[str, str]:
    """The headers of a query's answer that is made before its endpoint is reached: a body too large, a bug."""
    resources = _resources(scope["app"])
    for route in _ROUTES:
        if route.path_regex.match(scope["path"]):
            assert isinstance(route.endpoint, Endpoint)
            return route.endpoint.headers(resources)
    return {}


QUERY_API: Final = ApiDescription(
    title="Muster query API",
    summary="Reads users: page by page, as fresh as you ask for, never silently stale.",
    problems=QUERY_PROBLEMS,
    headers=_headers,
)


def create_app(settings: QueryApiSettings | None = None, *, now: Callable[[], datetime] = utc_now) -> FastAPI:
    """Make the app; nothing is opened before its lifespan begins.

    Raises:
        SettingsError: the environment lacks a setting, or does not say whose tokens open the API.
    """
    known = settings or load(QueryApiSettings)
    protection = Protection(ACCESS, known, host=known.query_api_host)

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
        QUERY_API,
        lifespan=lifespan,
        health=Health(ready={"database": database_answers, "generations": generations_serve}),
        protection=protection,
        admission=Admission(AT_ONCE),
        make_request_id=new_id_text,
        tracer=ProcessTracer.of(known, "query-api"),
    )
    document = openapi.build(title=QUERY_API.title, summary=QUERY_API.summary)
    declare_access(document, ACCESS)
    app.openapi = lambda: document  # type: ignore[method-assign] # FastAPI's documented way to bring one's own
    # The framework knows the routes as well, for its list of routes and for 405.
    app.router.routes[:0] = _ROUTES
    put_in_front(app, partial(QueryFastPath, _ROUTES))
    return app


def _resources(app: FastAPI) -> QueryResources:
    resources: QueryResources = app.state.resources
    return resources
