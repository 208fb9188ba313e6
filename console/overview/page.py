"""`/`: whether all is well, and the way of an event; live by server-sent events, one rendering for all who look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from chassis.http.transport.exchange import LONG_ANSWER, LongAnswer
from chassis.lifecycle import alongside
from console.overview.observation import Observation
from console.overview.stations import stations
from console.overview.verdict import findings
from console.overview.watch import Watch
from console.pages import page, render

#: A page waits for a look of now so long.
_FIRST_SECONDS: Final = 6.0
#: Browsers come back by themselves, and then their session is looked at anew.
STREAM_SECONDS: Final = 120.0
#: While no look succeeds; proxies end what is silent for a minute.
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

    async def changes(self) -> AsyncIterator[bytes]:
        """Every observation from now on as a server-sent event; a comment where none comes."""
        seen = self._watch.latest
        while True:
            newer = await self._watch.news(seen, _SILENT_SECONDS)
            yield b": still here\n\n" if newer is seen else _event(self._html(newer))
            seen = newer

    def _html(self, seen: Observation | None) -> str:
        if seen is None:
            return render("overview_part.html", seen=None)
        if self._rendered[0] is not seen:
            found = findings(seen)
            html = render("overview_part.html", seen=seen, findings=found, stations=stations(self._watch, seen, found))
            self._rendered = seen, html
        return self._rendered[1]


class _Stream(Response):
    """The changes, until the client leaves, the process is told to stop, or STREAM_SECONDS are over."""

    media_type = "text/event-stream"

    def __init__(self, overview: Overview) -> None:
        super().__init__(headers={"Connection": "close", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._overview = overview

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ended = asyncio.Event()
        connection: LongAnswer | None = scope.get(LONG_ANSWER)
        if connection is not None:
            connection.on_stop = ended.set
            if connection.is_stopping:
                ended.set()
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with alongside(_leave(receive, ended)):
            sending = asyncio.ensure_future(self._send(send))
            await asyncio.wait(
                {sending, over := asyncio.ensure_future(ended.wait())},
                timeout=STREAM_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in (sending, over):
                task.cancel()
            await asyncio.gather(sending, over, return_exceptions=True)
        await send({"type": "http.response.body", "body": b""})

    async def _send(self, send: Send) -> None:
        async for part in self._overview.changes():
            await send({"type": "http.response.body", "body": part, "more_body": True})


async def _leave(receive: Receive, ended: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    ended.set()


def _event(html: str) -> bytes:
    lines = "".join(f"data: {line}\n" for line in html.splitlines())
    return f"event: overview\n{lines}\n".encode()


async def _show(request: Request) -> Response:
    overview: Overview = request.app.state.overview
    return page(request, "overview.html", part=await overview.now())


async def _follow(request: Request) -> Response:
    return _Stream(request.app.state.overview)


routes: Final = [Route("/", _show), Route("/live/overview", _follow)]
