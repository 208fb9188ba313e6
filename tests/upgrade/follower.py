"""A client of the stream that comes back with its position, to whichever event API there is, of whichever version."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import httpx

from chassis.lifecycle import alongside
from tests.event_streams import streamed
from tests.integration.outbox.traffic import Comparison
from tests.upgrade.clients import ANSWER_SECONDS
from tests.waiting import until

#: From a stream that ended to the next one.
AGAIN_SECONDS: Final = 0.1
#: In which everything that is on the topic has come.
CAUGHT_UP_SECONDS: Final = 120.0


class Follower:
    """One client, from the first event on; it goes to the other address when its own ends or refuses."""

    def __init__(self, urls: Callable[[], Sequence[str]], bearer: Mapping[str, str]) -> None:
        """`urls` are those of the event APIs that there are, none where a version has none."""
        self._urls, self._bearer = urls, bearer
        self._at, self._position = 0, ""
        #: Each user's versions, in the order in which they came.
        self.versions: dict[str, list[int]] = {}
        self.connections = 0

    @property
    def events(self) -> int:
        """How many came."""
        return sum(map(len, self.versions.values()))

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follow while the block runs."""
        async with alongside(self._follow()):
            yield

    async def compared(self, known: Mapping[str, int]) -> Comparison:
        """What came beside each version of every user; `known` are the versions that somebody was told of.

        Raises:
            TimeoutError: those have not come within CAUGHT_UP_SECONDS.
        """

        async def has_come() -> bool:
            return all(max(self.versions.get(user, [0])) >= version for user, version in known.items())

        await until(has_come, within=CAUGHT_UP_SECONDS, what="the stream to bring all that was acknowledged")
        return Comparison.of(self.versions, {user: max(versions) for user, versions in self.versions.items()})

    async def _follow(self) -> None:
        quiet = httpx.Timeout(ANSWER_SECONDS)  # a stream says something every 15 s
        async with httpx.AsyncClient(trust_env=False, timeout=quiet, headers=dict(self._bearer)) as http:
            while True:
                urls = self._urls()
                if urls:
                    self._at = (self._at + 1) % len(urls)
                    http.base_url = httpx.URL(urls[self._at])
                    # Where it is away the position is good at the other.
                    with suppress(httpx.TransportError):
                        await self._stream(http)
                await asyncio.sleep(AGAIN_SECONDS)

    async def _stream(self, http: httpx.AsyncClient) -> None:
        async with streamed(http, {"from": "beginning"}, last_id=self._position) as stream:
            self.connections += 1
            async for event in stream:
                if event.type != "caught-up":
                    self.versions.setdefault(event.json["user_id"], []).append(event.json["version"])
                # Of what was dispatched: an id of which the event did not come is none.
                self._position = event.id
