"""When an answer without an end is over: the client has left, or the process is told to stop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive, Scope

from chassis.http.transport.exchange import LONG_ANSWER, LongAnswer
from chassis.lifecycle import alongside
from event_api.log.reading import Reading


@asynccontextmanager
async def reading_while_asked(reading: Reading, scope: Scope, receive: Receive) -> AsyncIterator[None]:
    """Close the reader at the block's end, and end it before, once nobody wants more of it."""
    connection: LongAnswer | None = scope.get(LONG_ANSWER)
    if connection is not None:
        connection.on_stop = reading.end
        if connection.is_stopping:
            reading.end()
    try:
        async with alongside(_end_when_left(reading, receive)):
            yield
    finally:
        if connection is not None:
            connection.on_stop = _nothing
        reading.close()


async def _end_when_left(reading: Reading, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reading.end()


def _nothing() -> None:
    """The answer has ended."""
