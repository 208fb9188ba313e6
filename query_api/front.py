"""The front of the app: the queries are found before the web framework's own layers, everything else goes through them.

Those layers (error pages, exception handlers, exit stacks, the router) cost 20 microseconds a request, a seventh of a
page, and a query needs none: its endpoint explains every refusal itself. What the app's description puts around every
request (ids, CORS, stray exceptions, the body limit) is around the queries, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send


class Front:
    """Serves the queries' routes itself and gives the rest to the framework."""

    def __init__(self, routes: Sequence[Route], framework: ASGIApp) -> None:
        """Try `routes` in their order; one that does not take the method is the framework's to refuse."""
        self._routes = routes
        self._framework = framework

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            for route in self._routes:
                match, found = route.matches(scope)
                if match is Match.FULL:
                    scope.update(found)
                    await route.app(scope, receive, send)
                    return
        await self._framework(scope, receive, send)


def put_in_front(app: FastAPI, routes: Sequence[Route]) -> None:
    """Serve `routes` ahead of the framework; they are the app's as well, for its list of routes and for 405."""
    app.router.routes[:0] = routes
    around, app.user_middleware = app.user_middleware, []
    served: ASGIApp = Front(routes, app.build_middleware_stack())
    for middleware, arguments, options in reversed(around):
        served = middleware(served, *arguments, **options)
    app.user_middleware = around
    app.middleware_stack = served
