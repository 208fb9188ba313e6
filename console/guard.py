"""Stands before every page: it says who is let in, and what a person is told where something is refused or fails.

A route without a rule does not start (`AccessTable.require_cover`), and each that has one asks for its session once
more (`asking`), so a way past this guard, whatever it were, leads nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Final

import structlog
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.access.rules import Rule
from chassis.http.middleware import ROUTE, loggable_path
from chassis.http.problems import Problem
from chassis.postgres.database import DatabaseUnavailableError
from console.access import ACCESS, SIGN_IN
from console.pages import HEADERS, PageError, enter, page, session_of
from console.sign_in.provider import ProviderAwayError
from console.sign_in.sessions import Session, Sessions
from console.streams import Stream, only_over

log = structlog.get_logger("console")

_STREAM: Final = "text/event-stream"
_SAFE: Final = frozenset({"GET", "HEAD"})
_TITLES: Final = {404: "There is no such page", 405: "That cannot be done here"}
_AWAY: Final = PageError(
    503,
    "The query database does not answer",
    "Sessions and records of what was done are kept there. Nothing was begun: try again in a moment.",
)


class ErrorPages:
    """Tells a person in a page what was refused or went wrong, and puts the page's headers on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap `app`."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            await error_page(Request(scope), error)(scope, receive, noting)


def error_page(request: Request, error: Exception) -> Response:
    """The page that tells a person of an error."""
    told = _explain(error, request.scope)
    is_passing = told.status == HTTPStatus.SERVICE_UNAVAILABLE and request.method in _SAFE
    answer = page(
        request, "error.html", status=told.status, title=told.title, detail=told.detail, is_passing=is_passing
    )
    answer.headers.update(getattr(error, "headers", None) or {})
    return answer


class SessionGuard:
    """Lets a request through once its session opens the route; what is public, or no route at all, passes."""

    def __init__(self, app: ASGIApp, *, sessions: Callable[[], Sessions], cookie: str) -> None:
        """Wrap `app`; `sessions` gives what the app's lifespan has opened."""
        self._app, self._sessions, self._cookie = app, sessions, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request.

        Raises:
            PageError: 401, 403.
            HTTPException: 404, a path only looks like a route's; 405.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"]
        if ACCESS.is_disguised(path):
            raise HTTPException(404)
        if methods := ACCESS.other_methods(method, path):
            raise HTTPException(405, headers={"Allow": ", ".join(methods)})
        request = Request(scope)
        rule = ACCESS.find(method, path)
        session = None
        if rule is not None:
            scope[ROUTE] = rule.path
            session = await self._sessions().find(request.cookies.get(self._cookie, ""))
        if rule is None:
            await self._app(scope, receive, send)
        elif session is None:
            await _stranger(request)(scope, receive, send)
        else:
            enter(scope, session)
            _require_scope(rule, session)
            await self._app(scope, receive, send)


def asking(routes: Iterable[Route]) -> list[Route]:
    """The routes, of which each that has a rule refuses where the guard has let nobody in."""
    ruled = {(rule.method, rule.path) for rule in ACCESS}
    return [
        _asking(route) if any((method, route.path) in ruled for method in route.methods or ()) else route
        for route in routes
    ]


def _asking(route: Route) -> Route:
    async def endpoint(request: Request) -> Response:
        session_of(request)
        answer: Response = await route.endpoint(request)
        return answer

    return Route(route.path, endpoint, methods=sorted(route.methods or ()))


def _stranger(request: Request) -> Response:
    """Lead somebody without a session to the sign-in; what asks for a page by itself tells the person who looks."""
    if _STREAM in request.headers.get("accept", ""):
        return Stream(only_over())
    if request.headers.get("hx-request"):
        return Response(status_code=401, headers={"HX-Redirect": SIGN_IN})
    if request.method in _SAFE:
        return RedirectResponse(SIGN_IN, 303)
    raise PageError(401, "You are not signed in", "Nothing was changed. Sign in, then do it again.")


def _require_scope(rule: Rule, session: Session) -> None:
    if rule.scopes and not session.may(*rule.scopes):
        raise PageError(
            403,
            "Your token does not allow that",
            f"It lacks the scope {' or '.join(rule.scopes)}. Nothing was changed.",
        )


def _explain(error: Exception, scope: Scope) -> PageError:
    match error:
        case PageError():
            return error
        case HTTPException(status_code=status):
            return PageError(status, _TITLES.get(status, error.detail), "Nothing was changed.")
        case Problem(type=kind):
            return PageError(kind.status, kind.title, error.detail)
        case DatabaseUnavailableError():
            return _AWAY
        case ProviderAwayError():
            return PageError(
                503, "The identity provider does not answer", f"{error}. Nothing was changed: try again soon."
            )
        case _:
            log.error("console.unexpected_error", method=scope["method"], path=loggable_path(scope), exc_info=error)
            return PageError(500, "Something went wrong here", "The console's log says what. Nothing more is known.")
