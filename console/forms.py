"""Changes come as forms, and each has the token of its session: a page of somebody else's cannot make one.

Browsers send `Origin: null` from pages with our referrer policy, so the token alone decides. What a page tells that
follows a change is in its address, so that it can be loaded again, with the session's proof: without it an address that
anybody has made up could tell that somebody was erased.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from console.pages import HEADERS, PageError, session_of
from console.sign_in.sealing import proof
from console.sign_in.sessions import Session

MEDIA_TYPE: Final = "application/x-www-form-urlencoded"
#: No form of ours has as many.
_MOST_FIELDS: Final = 20

_PROOF: Final = "proof"

Form = Mapping[str, str]
Change = Callable[[Request, Session, Form], Awaitable[Response]]


def change(handler: Change) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a change: the form is read, and its token looked at, before the handler sees it."""

    async def endpoint(request: Request) -> Response:
        session, form = session_of(request), await read_form(request)
        if not has_token(form, session.csrf):
            raise PageError(
                403, "That form is not of this session", "Nothing was changed. Open the page anew, then do it again."
            )
        return await handler(request, session, form)

    return endpoint


def has_token(form: Form, token: str) -> bool:
    """True where a form has this token."""
    return hmac.compare_digest(form.get("csrf", "").encode(), token.encode())


async def read_form(request: Request) -> Form:
    """The fields of a form, each once.

    Raises:
        PageError: 400, 415.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MEDIA_TYPE:
        raise PageError(415, "That is no form", f"A change comes as {MEDIA_TYPE}.")
    try:
        pairs = parse_qsl(
            (await request.body()).decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS
        )
    except ValueError as error:
        raise PageError(400, "That form cannot be read", "It is no form of this console's.") from error
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise PageError(400, "That form cannot be read", "A field comes twice.")
    return fields


def whole_number(text: str, *, most_digits: int) -> int | None:
    """The number that the text is; None where it is none of ASCII digits alone, or of more than these."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= most_digits else None


def lead_to(session: Session, path: str, *, part: str = "", **told: object) -> Response:
    """Lead to a page of ours, which is told this; `part` is where in it."""
    given = {name: str(value) for name, value in told.items() if value != ""}
    query = f"?{urlencode({**given, _PROOF: _proof(session, path, given)})}" if given else ""
    return RedirectResponse(f"{path}{query}{f'#{part}' if part else ''}", 303, dict(HEADERS))


def told_to(request: Request) -> Mapping[str, str]:
    """The words that a page is told; none where this session has not led there."""
    given = dict(request.query_params)
    shown = given.pop(_PROOF, "")
    expected = _proof(session_of(request), request.url.path, given)
    return given if hmac.compare_digest(shown.encode(), expected.encode()) else {}


def _proof(session: Session, path: str, told: Mapping[str, str]) -> str:
    return proof(session.id, f"{path}?{urlencode(sorted(told.items()))}")
