"""Events as a stream that goes on (server-sent events, as the WHATWG's HTML standard has them).

Every event has the position after it as its id, so a client that comes back loses and repeats nothing. While a client
reads what is old we wait for it; once it has caught up it gets what comes, and is cut off if it does not read. When
the stream ends, with its token as a rule, whoever reads slowly gets no more than a moment's rest of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from functools import partial
from typing import Final

from prometheus_client import Counter, Gauge
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from chassis.http.transport.exchange import LONG_ANSWER, LongAnswer
from event_api.http.ending import reading_while_asked
from event_api.log.consuming import LogAwayError
from event_api.log.continuity import LogGoneError
from event_api.log.reading import Reading
from event_api.log.ring import Item
from event_api.users.messages import UserRecord

MEDIA_TYPE: Final = "text/event-stream"
#: Proxies end what is silent for a minute; and a position that is older than records are kept is good for nothing.
HEARTBEAT_SECONDS: Final = 15.0
#: Written at once; while a client reads what is old, it is waited for after so many bytes.
_PART_BYTES: Final = 64 * 1024
#: After which older records are asked for again while Kafka is away.
_RETRY_SECONDS: Final = 1.0
#: So long a client may read of what was sent before its stream ended: a moment, as its token has ended.
LAST_SECONDS: Final = 5.0
#: How often it is looked at meanwhile whether it has.
_LOOK_SECONDS: Final = 0.05

_OPEN: Final = Gauge("muster_event_api_streams", "Clients that are connected.", multiprocess_mode="livesum")
_SENT: Final = Counter("muster_event_api_events_total", "Events that were sent, to all clients together.")


class EventStream(Response):
    """The answer; it has no end but the client's, its token's, the process's, or the topic's."""

    media_type = MEDIA_TYPE

    def __init__(self, reading: Reading, *, full: bool, tells_caught_up: bool, cut_off_bytes: int) -> None:
        """Send what the reader gives."""
        super().__init__(
            # A stream has no other request behind it.
            headers={
                "Cache-Control": "no-store",
                "Connection": "close",
                "Vary": "Accept, Prefer",
                "X-Accel-Buffering": "no",
            }
        )
        del self.headers["content-length"]
        self._reading, self._full, self._cut_off_bytes = reading, full, cut_off_bytes
        self._tells_caught_up = tells_caught_up

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until somebody ends it."""
        connection: LongAnswer | None = scope.get(LONG_ANSWER)
        if connection is not None:
            self._reading.on_end(partial(_cut_off_soon, connection))
        async with reading_while_asked(self._reading, scope, receive):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                with _OPEN.track_inprogress():
                    async for part in self._parts(connection):
                        await send({"type": "http.response.body", "body": part, "more_body": True})
            self._reading.end()
            # A connection that was closed cannot be cut off any more, and the system sends on what it holds.
            while connection is not None and connection.unread():  # noqa: ASYNC110 - the system tells nobody
                await asyncio.sleep(_LOOK_SECONDS)
            await send({"type": "http.response.body", "body": b""})

    async def _parts(self, connection: LongAnswer | None) -> AsyncIterator[bytes]:
        reading, clock = self._reading, asyncio.get_running_loop().time
        yield self._id()
        beat, waits = clock() + HEARTBEAT_SECONDS, True
        while not reading.is_ended:
            try:
                items = await reading.read(max(beat - clock(), 0))
            except LogAwayError:
                await reading.ended_within(_RETRY_SECONDS)
                items = iter(())
            except LogGoneError:
                return
            for part in self._written(items):
                yield part
                # A part that the connection has room for is sent without a wait: others have a turn in between all the
                # same.
                await asyncio.sleep(0)
            if reading.is_caught_up:
                if self._tells_caught_up:
                    self._tells_caught_up = False
                    yield b"event: caught-up\ndata: {}\n" + self._id()
                if waits and connection is not None:
                    waits = False
                    connection.cut_off_above(self._cut_off_bytes)
            if clock() >= beat:
                beat = clock() + HEARTBEAT_SECONDS
                yield b": still here\n" + self._id()

    def _written(self, items: Iterable[Item]) -> Iterable[bytes]:
        """The events of these records, some at once."""
        lines: list[bytes] = []
        size = count = 0
        for item in items:
            assert isinstance(item, UserRecord)
            data = item.json(full=self._full)
            lines += (b"event: ", item.type.encode(), b"\ndata: ", data, b"\n", self._id())
            size, count = size + len(data), count + 1
            if size > _PART_BYTES:
                _SENT.inc(count)
                yield b"".join(lines)
                if self._reading.is_ended:
                    return  # there may be much more, which a slow client would get long after
                lines, size, count = [], 0, 0
        if lines:
            _SENT.inc(count)
            yield b"".join(lines)

    def _id(self) -> bytes:
        """The end of an event: where the client is after it."""
        return b"id: %b\n\n" % self._reading.position.encode("ascii")


def _cut_off_soon(connection: LongAnswer) -> None:
    """Whatever its client has not read by then; no other request comes on this connection."""
    asyncio.get_running_loop().call_later(LAST_SECONDS, connection.cut_off)
