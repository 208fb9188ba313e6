"""`/`: whether all is well, and the way of an event; live by server-sent events, one rendering for all who look."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.overview.observation import Observation
from console.overview.stations import stations
from console.overview.verdict import findings
from console.overview.watch import Watch
from console.pages import page, render
from console.streams import COMMENT, Stream, event

#: A page waits for a look of now so long.
_FIRST_SECONDS: Final = 6.0
#: While no look succeeds.
_SILENT_SECONDS: Final = 15.0


class Overview:
    """What all who look are shown; rendered once for each observation."""

    def __init__(self, watch: Watch) -> None:
        """Of what this watch sees."""
        self._watch = watch
        self._rendered: tuple[Observation | None, str] = (None, "")

    async def now(self) -> str:
        """What is to be seen now."""
        return self._html(await self._watch.fresh(_FIRST_SECONDS))

    async def changes(self) -> AsyncGenerator[bytes]:
        """Every observation from now on as a server-sent event; a comment where none comes."""
        seen = self._watch.latest
        while True:
            newer = await self._watch.news(seen, _SILENT_SECONDS)
            yield COMMENT if newer is seen else event("overview", self._html(newer))
            seen = newer

    def _html(self, seen: Observation | None) -> str:
        if seen is None:
            return render("overview_part.html", seen=None)
        if self._rendered[0] is not seen:
            found = findings(seen)
            html = render("overview_part.html", seen=seen, findings=found, stations=stations(self._watch, seen, found))
            self._rendered = seen, html
        return self._rendered[1]


async def _show(request: Request) -> Response:
    overview: Overview = request.app.state.overview
    return page(request, "overview.html", part=await overview.now())


async def _follow(request: Request) -> Response:
    return Stream(request.app.state.overview.changes())


routes: Final = [Route("/", _show), Route("/live/overview", _follow)]
