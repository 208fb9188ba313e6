"""When an answer that goes on is over: the client has left, its token has ended, or the process is told to stop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from starlette.types import Receive, Scope

from chassis.access.guard import Access, access_of
from chassis.http.transport.exchange import LONG_ANSWER, LongAnswer
from chassis.lifecycle import alongside
from event_api.log.reading import Reading

#: Whether the issuer has removed a token's key is looked at this often; its `exp` is met to the second.
LOOK_SECONDS: Final = 5.0


@asynccontextmanager
async def reading_while_asked(reading: Reading, scope: Scope, receive: Receive) -> AsyncIterator[None]:
    """Close the reader at the block's end, and end it before, once nobody wants or may have more of it."""
    connection: LongAnswer | None = scope.get(LONG_ANSWER)
    if connection is not None:
        connection.on_stop = reading.end
        if connection.is_stopping:
            reading.end()
    try:
        async with alongside(_end_when_left(reading, receive), _end_with_token(reading, access_of(scope))):
            yield
    finally:
        if connection is not None:
            connection.on_stop = _nothing
        reading.close()


async def _end_when_left(reading: Reading, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    reading.end()


async def _end_with_token(reading: Reading, access: Access) -> None:
    # Clocks are set: what is left is asked for anew, however long it was.
    while (left := access.seconds_left()) > 0 and not await reading.ended_within(min(left, LOOK_SECONDS)):
        pass
    reading.end()


def _nothing() -> None:
    """The answer has ended."""
