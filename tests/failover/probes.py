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

    #: Seconds that a client had no answer as it should be, between two that it had.
    longest: float = 0.0


class Probes:
    """One kind of request, sent again and again by two clients, each of which begins at another address."""

    def __init__(self, urls: Sequence[str], bearer: dict[str, str], *, changes: bool) -> None:
        self.bearer = bearer
        self.tally = Stretch()
        self.tallies: dict[str, Stretch] = {}
        self.clients = [Twice(self, urls, first, changes=changes) for first in range(2)]

    def stretch(self, name: str) -> None:
        """Count what is answered from now on under this name."""
        self.tally = self.tallies[name] = Stretch()

    async def flow(self, stopping: asyncio.Event, ask: Callable[[Twice], Awaitable[object]]) -> None:
        """Have every client ask, one request after the other."""
        await asyncio.gather(*(self._keep_asking(client, stopping, ask) for client in self.clients))

    async def _keep_asking(
        self, client: Twice, stopping: asyncio.Event, ask: Callable[[Twice], Awaitable[object]]
    ) -> None:
        answered = time.monotonic()
        while not await wait_for_event(stopping, PAUSE_SECONDS):
            with suppress(FailedError):  # it is counted
                await ask(client)
                now = time.monotonic()
                self.tally.longest = max(self.tally.longest, now - answered - PAUSE_SECONDS)
                answered = now


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
