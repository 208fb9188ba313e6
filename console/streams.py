"""Pages that are live: server-sent events, as the WHATWG's HTML standard has them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chassis.http.overload.admission import leave_place
from chassis.http.transport.exchange import LONG_ANSWER, LongAnswer
from chassis.lifecycle import alongside, end_task, wait_for_event
from chassis.postgres.database import DatabaseUnavailableError
from console.sign_in.provider import ProviderAwayError

#: Browsers come back by themselves, and then their session is looked at anew.
STREAM_SECONDS: Final = 120.0
#: One of these ends a line of a stream, and nothing else does: a name may have U+2028 in it.
_LINE_END: Final = re.compile("\r\n|\r|\n")
#: Proxies end what is silent for a minute.
COMMENT: Final = b": still here\n\n"


class Stream(Response):
    """Parts until there are no more, the client leaves, the process is told to stop, or STREAM_SECONDS are over.

    It ends as well where nobody can say now whether its session is still good.
    """

    media_type = "text/event-stream"

    def __init__(self, parts: AsyncGenerator[bytes]) -> None:
        """Send these; whatever they wait for is cancelled at the end."""
        super().__init__(headers={"Connection": "close", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        leave_place(scope)
        ended = asyncio.Event()
        connection: LongAnswer | None = scope.get(LONG_ANSWER)
        if connection is not None:
            connection.on_stop = ended.set
            if connection.is_stopping:
                ended.set()
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] != "HEAD":
            async with alongside(_leave(receive, ended)):
                await self._until(ended, asyncio.ensure_future(self._send(send, ended)))
        await send({"type": "http.response.body", "body": b""})

    async def _until(self, ended: asyncio.Event, sending: asyncio.Task[None]) -> None:
        try:
            await wait_for_event(ended, STREAM_SECONDS)
        finally:
            await end_task(sending)

    async def _send(self, send: Send, ended: asyncio.Event) -> None:
        try:
            async with aclosing(self._parts) as parts:
                async for part in parts:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        except (DatabaseUnavailableError, ProviderAwayError):
            # The log has it once, not once for each who looks; a browser that comes back is told why it is not let in.
            pass
        finally:
            ended.set()


def event(name: str, text: str, *, position: str = "") -> bytes:
    """One server-sent event; after it the browser is at `position`, which it says when it comes back."""
    lines = "".join(f"data: {line}\n" for line in _LINE_END.split(text))
    identified = f"id: {position}\n" if position else ""
    return f"event: {name}\n{lines}{identified}\n".encode()


#: The last event of a stream whose session is over.
OVER: Final = event("over", "Not live: you are not signed in any more.")


async def only_over() -> AsyncGenerator[bytes]:
    """A stream for a browser that comes back without a session: an answer that is no stream would tell it nothing."""
    yield OVER


async def _leave(receive: Receive, ended: asyncio.Event) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    ended.set()
