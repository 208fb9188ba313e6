"""`/`: whether all is well, and the way of an event; live by server-sent events, one rendering for all who look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.overview.observation import Observation
from console.overview.stations import stations
from console.overview.verdict import OverviewVerdict, findings, verdict
from console.overview.watch import Watch
from console.pages import page, render, session_of
from console.sign_in.sessions import Session, Sessions
from console.streams import OVER, Stream, event

#: A page waits for a look of now so long.
_FIRST_SECONDS: Final = 6.0
#: After which a viewer is told anew, also where no look came: what was seen grows old. Its session is looked at then.
_TELL_SECONDS: Final = 10.0


class Overview:
    """The page that all who look are shown; rendered once for each observation, and once more when that is too old."""

    def __init__(self, watch: Watch) -> None:
        """Show what this watch sees."""
        self._watch = watch
        self._rendered: tuple[Observation | None, OverviewVerdict | None, str] = (None, None, "")

    async def now(self) -> str:
        """The page as it is now."""
        return self._html(await self._watch.fresh(_FIRST_SECONDS))

    async def changes(self, sessions: Sessions, session: Session) -> AsyncGenerator[bytes]:
        """The page, anew with every observation, as server-sent events, until the session is over."""
        with self._watch.viewing():
            seen = self._watch.latest
            clock = asyncio.get_running_loop().time
            look = clock() + _TELL_SECONDS
            while True:
                seen = await self._watch.news(seen, _TELL_SECONDS)
                if clock() >= look:
                    look = clock() + _TELL_SECONDS
                    if await sessions.find(session.id) is None:
                        yield OVER
                        return
                yield event("overview", self._html(seen))

    def _html(self, seen: Observation | None) -> str:
        if seen is None:
            return render("overview_part.html", seen=None)
        said = verdict(seen, self._watch.now())
        if self._rendered[0] is not seen or self._rendered[1] != said:
            shown = [] if said.is_stale else stations(self._watch, seen, findings(seen))
            self._rendered = seen, said, render("overview_part.html", seen=seen, verdict=said, stations=shown)
        return self._rendered[2]


async def _show(request: Request) -> Response:
    overview: Overview = request.app.state.overview
    return page(request, "overview.html", part=await overview.now())


async def _follow(request: Request) -> Response:
    overview: Overview = request.app.state.overview
    return Stream(overview.changes(request.app.state.sessions, session_of(request)))


routes: Final = [Route("/", _show), Route("/live/overview", _follow)]
