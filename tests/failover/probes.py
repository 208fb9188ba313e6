"""Clients of two kinds: some register people, others read one, and both note how long they had no answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from chassis.lifecycle import wait_for_event
from tests.upgrade.clients import PASSWORD, FailedError, Tally, Twice

#: Between two requests of a client.
PAUSE_SECONDS: Final = 0.05


@dataclass(slots=True)
class Stretch(Tally):
    """What became of one kind of request during one fault."""

    #: Seconds that a client had no answer as it should be: between two that it had, or up to the end of this.
    longest: float = 0.0


class Probes:
    """One kind of request, sent again and again by two clients, each of which begins at another address."""

    def __init__(self, urls: Sequence[str], bearer: dict[str, str], *, changes: bool) -> None:
        self.bearer = bearer
        self.tally = Stretch()
        self.tallies: dict[str, Stretch] = {}
        self.clients = [Twice(self, urls, first, changes=changes) for first in range(2)]
        #: When each had its last answer, while it asks.
        self._answered: dict[Twice, float] = {}

    def stretch(self, name: str) -> None:
        """Count what is answered from now on under this name."""
        for client in self._answered:
            self._note_gap(client)
        self.tally = self.tallies[name] = Stretch()

    async def flow(self, stopping: asyncio.Event, ask: Callable[[Twice], Awaitable[object]]) -> None:
        """Have every client ask, one request after the other; close their connections at the end."""
        await asyncio.gather(*(self._keep_asking(client, stopping, ask) for client in self.clients))
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(client.close() for client in self.clients))

    async def _keep_asking(
        self, client: Twice, stopping: asyncio.Event, ask: Callable[[Twice], Awaitable[object]]
    ) -> None:
        self._answered[client] = time.monotonic()
        while not await wait_for_event(stopping, PAUSE_SECONDS):
            with suppress(FailedError):  # it is counted
                await ask(client)
                self._note_gap(client)
                self._answered[client] = time.monotonic()
        self._note_gap(client)

    def _note_gap(self, client: Twice) -> None:
        self.tally.longest = max(self.tally.longest, time.monotonic() - self._answered[client] - PAUSE_SECONDS)


class People:
    """Those whose registration was acknowledged: where each is read, and the token that says they are there."""

    def __init__(self) -> None:
        self.tokens: dict[str, str] = {}

    async def register(self, commands: Twice) -> str:
        """Register somebody, and return the path to read them at."""
        name = f"user-{uuid4().hex[:16]}"
        body = {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
        answer = await commands.ask("POST", "/users", 201, json=body, headers={"Idempotency-Key": name})
        path = f"/users/{answer.json()['id']}"
        self.tokens[path] = answer.headers["Consistency-Token"]
        return path

    async def is_read(self, queries: Twice, path: str) -> bool:
        """Whether a query has what was acknowledged of them."""
        with suppress(FailedError):
            headers = {"Consistency-Token": self.tokens[path], "Prefer": "wait=1"}
            return bool(await queries.ask("GET", path, 200, headers=headers))
        return False
