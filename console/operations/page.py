"""`/operations`: what was done here, the newest first."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.forms import whole_number
from console.opened import journal_of
from console.operations.journal import PAGE_ROWS
from console.pages import PageError, page

#: Digits of the greatest number that a row can have, less one.
_MOST_DIGITS: Final = 18


async def _show(request: Request) -> Response:
    given = request.query_params.get("before", "")
    before = whole_number(given, most_digits=_MOST_DIGITS)
    if given and before is None:
        raise PageError(400, "There is no such page", "`before` must be the number of an operation.")
    entries = await journal_of(request).page(before)
    older = entries[-1].id if len(entries) == PAGE_ROWS else None
    return page(request, "operations.html", entries=entries, older=older, is_first=not given)


routes: Final = [Route("/operations", _show)]
