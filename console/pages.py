"""Makes every page: its template, who looks at it, and the headers that keep others out of it.

Templates escape whatever they are given. The policy allows nothing from elsewhere, no script within a page, and no
other page around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from console import words
from console.assets import assets
from console.sign_in.sessions import Session

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_SESSION: Final = "muster.console.session"


UNSURE: Final = "Whether anything was changed is not known: look before you do it again."


class NavigationPlace(NamedTuple):
    """A page that the navigation leads to."""

    path: str
    name: str
    scope: str


NAVIGATION: Final = (
    NavigationPlace("/", "Overview", "operations:read"),
    NavigationPlace("/users", "Users", "users:read"),
    NavigationPlace("/events", "Events", "events:read"),
    NavigationPlace("/projections", "Projections", "operations:read"),
    NavigationPlace("/parked", "Parked", "operations:read"),
    NavigationPlace("/subscribers", "Subscribers", "operations:read"),
    NavigationPlace("/operations", "Operations", "operations:read"),
)


class PageError(Exception):
    """Something that a person is told instead of the page that was asked for."""

    def __init__(self, status: int, title: str, detail: str, *, unsure: bool = False) -> None:
        """A title of some words, and a sentence that says what to do; `unsure`: a change may have been made or not."""
        super().__init__(f"{status} {title}: {detail}")
        self.status, self.title, self.detail, self.unsure = status, title, detail, unsure


def unsure() -> PageError:
    """The error for a change in the middle of which the query database has not answered."""
    return PageError(503, "The query database does not answer", UNSURE, unsure=True)


@lru_cache(maxsize=1)
def templates() -> Environment:
    """The templates, with the words for numbers and times."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(count=words.count, seconds=words.seconds, moment=words.moment, event=words.event)
    made.globals.update(asset=lambda name: assets()[name].address)
    return made


def render(name: str, **context: Any) -> str:
    """A template, or a part of a page that changes by itself."""
    return templates().get_template(name).render(**context)


def page(request: Request, name: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """A whole page, for whoever looks at it."""
    session = request.scope.get(_SESSION)
    seen = [place for place in NAVIGATION if session is not None and session.may(place.scope)]
    text = render(name, session=session, navigation=seen, here=request.url.path, **context)
    return HTMLResponse(text, status, headers=dict(HEADERS))


def enter(scope: Any, session: Session) -> None:
    """Note who sent a request."""
    scope[_SESSION] = session


def session_of(request: Request) -> Session:
    """The session that sent a request; a way past the guard leads nowhere."""
    session = request.scope.get(_SESSION)
    if session is None:
        raise RuntimeError("a request came past the console's guard")
    assert isinstance(session, Session)
    return session
