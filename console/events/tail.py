"""One viewer's tail of the events: the event API's stream, whose rows are passed on, as fast as anybody can look.

One connection to the event API a viewer, with the viewer's own token. It comes back by itself after an outage, behind
the last event that came; so does the browser, after an outage of ours, behind the last event that it was sent.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final, NamedTuple

import structlog

from chassis.lifecycle import alongside, wait_for_event
from console.apis import Apis
from console.events.rows import MOST_ROWS, WantedEvents, newest_first, render_rows
from console.pages import PageError
from console.sign_in.sessions import Session, Sessions
from console.streams import COMMENT, event

log = structlog.get_logger("console")

#: Nobody reads faster.
FLUSH_SECONDS: Final = 0.25
#: A stream ends so soon after its session.
SESSION_SECONDS: Final = 5.0
#: After which the event API is asked again.
RETRY_SECONDS: Final = 2.0
#: After these the event API may answer again; after any other refusal it will not.
_PASSING: Final = frozenset({429, 502, 503, 504})
#: Tells no event.
_CAUGHT_UP: Final = "caught-up"
_FAILED: Final = "Not live: something went wrong here. The console's log says what."
_SIGNED_OUT: Final = "Not live: you are not signed in any more."


class Message(NamedTuple):
    """One server-sent event of the event API."""

    type: str
    data: bytes
    position: str


class Received:
    """Events that have come for one viewer, and were not sent: of many the newest."""

    def __init__(self, position: str) -> None:
        """Nothing yet, after this position."""
        self.position, self.state, self.is_over = position, "", False
        self.news = asyncio.Event()
        self._events: deque[bytes] = deque(maxlen=MOST_ROWS)
        self._count = 0

    def add(self, message: Message) -> None:
        """A message has come; some move the position alone."""
        self.position = message.position
        if message.data and message.type != _CAUGHT_UP:
            self._events.append(message.data)
            self._count += 1
            self.news.set()

    def say(self, state: str, *, over: bool = False) -> None:
        """Say in words how the viewer is connected; `over` says that nothing more will come."""
        self.state, self.is_over = state, over
        self.news.set()

    def take(self) -> tuple[list[bytes], int]:
        """The events that came, and how many were left out."""
        taken, left_out = list(self._events), self._count - len(self._events)
        self._events.clear()
        self._count = 0
        return taken, left_out


async def tail(
    apis: Apis, sessions: Sessions, session: Session, wanted: WantedEvents, position: str
) -> AsyncGenerator[bytes]:
    """Server-sent events for the page: `rows`, and `state`; `over` is the last, where nothing more can come."""
    received, said, clock = Received(position), "", asyncio.get_running_loop().time
    look = clock() + SESSION_SECONDS
    async with alongside(_receive(apis, session, wanted, received)):
        while True:
            await wait_for_event(received.news, max(look - clock(), 0))
            if clock() >= look:
                look = clock() + SESSION_SECONDS
                if await sessions.find(session.id) is None:
                    received.say(_SIGNED_OUT, over=True)
                else:
                    yield COMMENT
            received.news.clear()
            events, left_out = received.take()
            if received.state != said and not received.is_over:
                said = received.state
                yield event("state", said)
            if events:
                rows = newest_first(map(json.loads, events))
                yield event("rows", render_rows(rows, session, left_out=left_out), position=received.position)
                await asyncio.sleep(FLUSH_SECONDS)
            if received.is_over:
                yield event("over", received.state)
                return


async def _receive(apis: Apis, session: Session, wanted: WantedEvents, received: Received) -> None:
    """Read on until the event API refuses for good."""
    while not received.is_over:
        try:
            async with apis.event_stream(session, wanted.parameters, received.position) as parts:
                received.say("Live")
                async for message in messages(parts):
                    received.add(message)
            received.say("Connecting again.")
        except PageError as error:
            passes = error.status in _PASSING
            received.say(f"Not live: {error.title}. {error.detail}", over=not passes)
        except Exception:
            log.exception("console.tail_failed")
            received.say(_FAILED, over=True)
        await asyncio.sleep(RETRY_SECONDS)


async def messages(parts: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    """The messages of a stream; a position may come alone."""
    type_, data, position, rest = "", b"", "", b""
    async for part in parts:
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            name, _, value = line.partition(b": ")
            match name:
                case b"event":
                    type_ = value.decode()
                case b"data":
                    data = value
                case b"id":
                    position = value.decode()
                case b"" if not line:
                    yield Message(type_, data, position)
                    type_, data = "", b""
