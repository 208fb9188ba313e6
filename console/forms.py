"""Changes come as forms, and each has the token of its session: a page of somebody else's cannot make one.

Browsers send `Origin: null` from pages with our referrer policy, so the token alone decides.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from console.pages import PageError, session_of
from console.sign_in.sessions import Session

MEDIA_TYPE: Final = "application/x-www-form-urlencoded"
#: No form of ours has as many.
_MOST_FIELDS: Final = 20

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
    """Whether a form has this token."""
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
