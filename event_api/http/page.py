"""Events by the page: for who asks now and then, or waits for one more."""

from __future__ import annotations

import asyncio
import json
from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from event_api.http.asking import unreadable
from event_api.http.ending import reading_while_asked
from event_api.log.consuming import LogAwayError
from event_api.log.continuity import LogGoneError
from event_api.log.reading import Reading
from event_api.users.messages import UserRecord

DEFAULT_LIMIT: Final = 100
LARGEST_LIMIT: Final = 1000
#: The longest that a page is waited for, in seconds: proxies end what is silent for a minute.
LONGEST_WAIT: Final = 55
#: A page that few records fit ends after this long with what it has; its position is further on.
SEARCH_SECONDS: Final = 5.0


class EventPage(NamedTuple):
    """Some events, and where the next page begins."""

    events: list[bytes]
    next: str
    caught_up: bool

    def response(self, *, wait: int | None) -> Response:
        """The answer; a wait that was asked for is named."""
        body = b'{"data":[%b],"next":%b,"caught_up":%b}' % (
            b",".join(self.events),
            json.dumps(self.next).encode("ascii"),
            b"true" if self.caught_up else b"false",
        )
        headers = {"Cache-Control": "no-store", "Vary": "Accept, Prefer"}
        if wait is not None:
            headers["Preference-Applied"] = f"wait={wait}"
        return Response(body, media_type="application/json", headers=headers)


async def read_page(reading: Reading, request: Request, *, full: bool, limit: int, wait: int) -> EventPage:
    """The events there are, `limit` at most; where there are none, wait so many seconds for the first.

    Raises:
        Problem: 410, 503, before there was anything.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    events: list[bytes] = []
    async with reading_while_asked(reading, request.scope, request.receive):
        while not reading.is_ended:
            waits = reading.is_caught_up and not events
            left = begun + (wait if waits else SEARCH_SECONDS) - loop.time()
            if left <= 0 or (reading.is_caught_up and events):
                break
            try:
                await _fill(events, reading, left, full=full, limit=limit)
            except (LogGoneError, LogAwayError) as error:
                if events:
                    break
                raise unreadable(error) from error
            if len(events) == limit:
                break
        return EventPage(events, reading.position, reading.is_caught_up)


async def _fill(events: list[bytes], reading: Reading, seconds: float, *, full: bool, limit: int) -> None:
    for item in await reading.read(seconds):
        assert isinstance(item, UserRecord)
        events.append(item.json(full=full))
        if len(events) == limit:
            return
