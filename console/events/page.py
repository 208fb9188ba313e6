"""`/events`: the last events, and with scripts what comes from then on."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.apis import Apis
from console.events.rows import KINDS, MOST_ROWS, WantedEvents, newest_first, render_rows
from console.events.tail import tail
from console.pages import page, session_of
from console.streams import Stream

#: The largest page that the event API gives: all that `from=recent` has.
_LIMIT: Final = "1000"


async def _show(request: Request) -> Response:
    session, wanted, apis = session_of(request), WantedEvents.of(request), request.app.state.apis
    recent = await apis.events(session, {**wanted.parameters, "from": "recent", "limit": _LIMIT})
    rows = newest_first(recent["data"])
    query = urlencode(wanted.address)
    return page(
        request,
        "events.html",
        wanted=wanted,
        kinds=KINDS,
        rows=render_rows(rows, session),
        found=bool(rows),
        most=MOST_ROWS,
        position=recent["next"],
        again=f"/events?{query}" if query else "/events",
        live=f"/live/events?{query}",
    )


async def _follow(request: Request) -> Response:
    apis: Apis = request.app.state.apis
    # A browser that comes back says it in the header; its address is that of its first time.
    position = request.headers.get("last-event-id") or request.query_params.get("after", "")
    return Stream(tail(apis, request.app.state.sessions, session_of(request), WantedEvents.of(request), position))


routes: Final = [Route("/events", _show), Route("/live/events", _follow)]
