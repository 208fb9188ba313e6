"""A client of server-sent events that reads by the rules of the WHATWG's HTML standard, section 9.2.6."""

import json
import re
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx

#: A carriage return at the very end may have its line feed in the next part.
_ends_of_lines: Final = re.compile(rb"\r\n|\n|\r(?!\Z)").split


@dataclass(frozen=True)
class Sent:
    """An event as a browser would dispatch it, and the last event id at that moment."""

    type: str
    data: str
    id: str

    @property
    def json(self) -> Any:
        return json.loads(self.data)


class EventStream:
    """What came on one connection."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.last_id = ""
        self.comments: list[str] = []
        #: Every id that came, with an event or without.
        self.ids: list[str] = []

    async def __aiter__(self) -> AsyncIterator[Sent]:
        data: list[str] = []
        type_ = ""
        async for line in self._lines():
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            match name:
                case "" if line:
                    self.comments.append(value)
                case "":
                    if data:
                        yield Sent(type_ or "message", "\n".join(data), self.last_id)
                    type_, data = "", []
                case "event":
                    type_ = value
                case "data":
                    data.append(value)
                case "id":
                    self.last_id = value
                    self.ids.append(value)
                case _:
                    pass  # other fields mean nothing

    async def _lines(self) -> AsyncIterator[str]:
        """What a line feed, a carriage return or both end; httpx ends lines at more, also within somebody's name."""
        rest = b""
        async for part in self.answer.aiter_bytes():
            *whole, rest = _ends_of_lines(rest + part)
            for line in whole:
                yield line.decode()


@asynccontextmanager
async def streamed(
    client: httpx.AsyncClient, parameters: Mapping[str, str | list[str]] | None = None, *, last_id: str = ""
) -> AsyncIterator[EventStream]:
    """A stream, from the position of an earlier one where it is given."""
    more = {"Last-Event-ID": last_id} if last_id else {}
    async with client.stream(
        "GET", "/events", params=parameters, headers={"Accept": "text/event-stream", **more}
    ) as answer:
        assert answer.status_code == 200, await answer.aread()
        yield EventStream(answer)


async def taken(events: AsyncIterator[Sent], count: int) -> list[Sent]:
    """The next so many."""
    return [await anext(events) for _ in range(count)]


async def up_to(events: AsyncIterator[Sent], type_: str) -> list[Sent]:
    """Those before the next of this type, which is taken as well."""
    found: list[Sent] = []
    async for event in events:
        if event.type == type_:
            return found
        found.append(event)
    raise AssertionError(f"the stream ended before {type_}")


def versions(events: Iterable[Sent]) -> dict[str, list[int]]:
    """The versions of each user, in the order in which they came."""
    found: dict[str, list[int]] = {}
    for event in events:
        found.setdefault(event.json["user_id"], []).append(event.json["version"])
    return found
