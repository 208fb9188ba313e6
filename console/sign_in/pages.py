"""Signing in by a one-time link, and signing out.

The link shows a button, which spends it: what looks at links ahead of a person, a mail program or a chat, spends none.
The button works in the browser alone that was shown it, by a cookie: otherwise somebody's page could sign another
browser in as themselves, and see later what was done there.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from chassis.clock import utc_now
from chassis.http.problems import Problem
from chassis.postgres.database import Database, DatabaseUnavailableError
from console.access import SIGN_IN
from console.forms import Form, change, has_token, read_form
from console.pages import HEADERS, NAVIGATION, PageError, page, unsure
from console.settings import ConsoleSettings
from console.sign_in.links import LINK_LIFETIME, PATH, spend_link
from console.sign_in.sealing import csrf_token, new_id
from console.sign_in.sessions import Session, Sessions

_SPENT: Final = PageError(
    410, "This link is no longer good", "It works once, for ten minutes. `muster console link` makes another."
)
_ELSEWHERE: Final = PageError(
    403, "This link was opened elsewhere", "Nobody was signed in. Open the link itself, then press the button there."
)
#: The page of those who signed out, where an identity provider may still know them.
ENDED: Final = "/sign-in/ended"
#: The time for one row by its key.
_SECONDS: Final = 3.0


def cookie_name(settings: ConsoleSettings) -> str:
    """The name of the session's cookie; over https a browser lets no other host and no http page set it."""
    return "__Host-muster_console" if is_secure(settings) else "muster_console"


def _opener(settings: ConsoleSettings) -> str:
    """The name of the cookie that binds a link's button to the browser that was shown it."""
    return f"{cookie_name(settings)}_link"


async def _explain(request: Request) -> Response:
    sessions: Sessions = request.app.state.sessions
    if sessions.open_to_all:
        return RedirectResponse("/", 303)
    return page(request, "sign_in.html", provider=request.app.state.provider)


async def _offer(request: Request) -> Response:
    settings: ConsoleSettings = request.app.state.settings
    opener = request.cookies.get(_opener(settings)) or new_id()  # another link of the same browser may stand open
    answer = page(request, "sign_in_link.html", csrf=csrf_token(opener))
    _set_cookie(answer, settings, _opener(settings), opener, utc_now() + LINK_LIFETIME)
    return answer


async def _spend(request: Request) -> Response:
    """Begin a session with the link's token; the second of two who spend it finds nothing."""
    settings: ConsoleSettings = request.app.state.settings
    query: Database = request.app.state.query
    sessions: Sessions = request.app.state.sessions
    if sessions.open_to_all:
        return RedirectResponse("/", 303)
    opener = request.cookies.get(_opener(settings), "")
    if not opener or not has_token(await read_form(request), csrf_token(opener)):
        raise _ELSEWHERE
    try:
        # The link is not spent where the session cannot be kept.
        async with query.connection(_SECONDS) as connection, connection.transaction():
            token = await spend_link(connection, settings.seals, request.path_params["link"], utc_now())
            if token is None:
                raise _SPENT
            session = await sessions.begin(
                token, instead_of=request.cookies.get(cookie_name(settings), ""), connection=connection
            )
    except Problem as error:
        raise PageError(401, "The link's token is not good", f"{error.detail}. Make another link.") from error
    except DatabaseUnavailableError as error:
        raise unsure() from error
    return signed_in(settings, session)


def signed_in(settings: ConsoleSettings, session: Session) -> Response:
    """Lead to the first page that the token opens, with the session's cookie."""
    first = next((place.path for place in NAVIGATION if session.may(place.scope)), "/")
    answer = RedirectResponse(first, 303, dict(HEADERS))
    _set_cookie(answer, settings, cookie_name(settings), session.id, session.expires_at)
    return answer


async def _sign_out(request: Request, session: Session, _: Form) -> Response:
    sessions: Sessions = request.app.state.sessions
    try:
        await sessions.end(session)
    except DatabaseUnavailableError as error:
        raise unsure() from error
    settings: ConsoleSettings = request.app.state.settings
    there = ENDED if request.app.state.provider else SIGN_IN
    answer = RedirectResponse(there, 303, dict(HEADERS))
    _set_cookie(answer, settings, cookie_name(settings), "", None)
    return answer


def _set_cookie(
    answer: Response, settings: ConsoleSettings, name: str, value: str, expires_at: datetime | None
) -> None:
    seconds = max(0, int((expires_at - utc_now()).total_seconds())) if expires_at else 0
    answer.set_cookie(
        name,
        value,
        max_age=seconds,
        path="/",
        secure=is_secure(settings),
        httponly=True,
        samesite="lax",
    )


def is_secure(settings: ConsoleSettings) -> bool:
    return settings.public_console_url.startswith("https://")


routes: Final = [
    Route(SIGN_IN, _explain),
    Route(f"{PATH}{{link}}", _offer),
    Route(f"{PATH}{{link}}", _spend, methods=["POST"]),
    Route("/sign-out", change(_sign_out), methods=["POST"]),
]
