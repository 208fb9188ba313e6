"""Signing in by a one-time link, and signing out.

The link shows a button, which spends it: what looks at links ahead of a person, a mail program or a chat, spends none.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from chassis.clock import utc_now
from chassis.http.problems import Problem
from chassis.postgres.database import Database
from console.access import SIGN_IN
from console.forms import Form, change
from console.pages import HEADERS, NAVIGATION, PageError, page
from console.settings import ConsoleSettings
from console.sign_in.links import PATH, spend_link
from console.sign_in.sessions import Session, Sessions

_SPENT: Final = PageError(
    410, "This link is no longer good", "It works once, for ten minutes. `muster console link` makes another."
)
#: For one row by its key.
_SECONDS: Final = 3.0


def cookie_name(settings: ConsoleSettings) -> str:
    """What the session's cookie is called; over https a browser lets no other host and no http page set it."""
    return "__Host-muster_console" if _is_secure(settings) else "muster_console"


async def _explain(request: Request) -> Response:
    sessions: Sessions = request.app.state.sessions
    if sessions.open_to_all:
        return RedirectResponse("/", 303)
    return page(request, "sign_in.html")


async def _offer(request: Request) -> Response:
    return page(request, "sign_in_link.html")


async def _spend(request: Request) -> Response:
    """Begin a session with the link's token; the second of two who spend it finds nothing."""
    settings: ConsoleSettings = request.app.state.settings
    query: Database = request.app.state.query
    sessions: Sessions = request.app.state.sessions
    if sessions.open_to_all:
        return RedirectResponse("/", 303)
    async with query.connection(_SECONDS) as connection:
        token = await spend_link(connection, settings.seals, request.path_params["link"], utc_now())
    if token is None:
        raise _SPENT
    try:
        session = await sessions.begin(token)
    except Problem as error:
        raise PageError(401, "The link's token is not good", f"{error.detail}. Make another link.") from error
    return signed_in(settings, session)


def signed_in(settings: ConsoleSettings, session: Session) -> Response:
    """Lead to the first page that the token opens, with the session's cookie."""
    first = next((place.path for place in NAVIGATION if session.may(place.scope)), "/")
    answer = RedirectResponse(first, 303, dict(HEADERS))
    _set_cookie(answer, settings, session.id, session.expires_at)
    return answer


async def _sign_out(request: Request, session: Session, _: Form) -> Response:
    sessions: Sessions = request.app.state.sessions
    await sessions.end(session)
    answer = RedirectResponse(SIGN_IN, 303, dict(HEADERS))
    _set_cookie(answer, request.app.state.settings, "", None)
    return answer


def _set_cookie(answer: Response, settings: ConsoleSettings, value: str, expires_at: datetime | None) -> None:
    seconds = max(0, int((expires_at - utc_now()).total_seconds())) if expires_at else 0
    answer.set_cookie(
        cookie_name(settings),
        value,
        max_age=seconds,
        path="/",
        secure=_is_secure(settings),
        httponly=True,
        samesite="lax",
    )


def _is_secure(settings: ConsoleSettings) -> bool:
    return settings.public_console_url.startswith("https://")


routes: Final = [
    Route(SIGN_IN, _explain),
    Route(f"{PATH}{{link}}", _offer),
    Route(f"{PATH}{{link}}", _spend, methods=["POST"]),
    Route("/sign-out", change(_sign_out), methods=["POST"]),
]
