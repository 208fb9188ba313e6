"""`/operations`: what was done here, the newest first."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.operations.journal import PAGE_ROWS, Journal
from console.pages import PageError, page

#: Digits of the greatest number that a row can have, less one.
_MOST_DIGITS: Final = 18


async def _show(request: Request) -> Response:
    journal: Journal = request.app.state.journal
    given = request.query_params.get("before", "")
    if given and not (given.isascii() and given.isdecimal() and len(given) <= _MOST_DIGITS):
        raise PageError(400, "There is no such page", "`before` must be the number of an operation.")
    entries = await journal.page(int(given) if given else None)
    older = entries[-1].id if len(entries) == PAGE_ROWS else None
    return page(request, "operations.html", entries=entries, older=older, is_first=not given)


routes: Final = [Route("/operations", _show)]
