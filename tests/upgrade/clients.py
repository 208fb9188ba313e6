"""Clients of APIs that run twice: they know both addresses, change users, read them back, and count what failed.

A client stays with the address that answered last. Where a connection is refused, or closed before an answer began, it
goes to the other at once, with the same request; commands have an Idempotency-Key, so one that was done is not done
again. Whatever else goes wrong is a failure: an answer of 5xx or of any other status than the expected, one that breaks
off, none in time, a read that is older than what was acknowledged.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from uuid import uuid4

import httpx

#: The other address, and then both once more: a kept connection may have been closed since, too.
ATTEMPTS: Final = 4
#: No connection, or one that ended before the answer began.
GONE: Final = (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
#: Longer than the longest wait for a token.
ANSWER_SECONDS: Final = 20.0
#: What a client asks a read to wait for its own command, at most as long as the API allows.
WAIT: Final = "wait=10"
#: Between two requests of a client: the machine is for the processes that start.
PACE_SECONDS: Final = 0.08
#: The longest that a stretch of requests may take; ten thousand took a quarter of an hour on a machine at load 34.
STRETCH_SECONDS: Final = 3600.0
OWN_USERS: Final = 10
#: How often each is chosen.
KINDS: Final = {
    "register": 5, "profile": 50, "email": 8, "username": 8, "activity": 8, "password": 2, "verify": 3, "erase": 4,
}  # fmt: skip
PASSWORD: Final = "correct horse battery"
KEPT_FAILURES: Final = 20


@dataclass(slots=True)
class Tally:
    """What became of the requests of one stretch of time."""

    commands: int = 0
    queries: int = 0
    failures: list[str] = field(default_factory=list)
    failed: int = 0
    #: Requests that were answered by another address than the first, or at a later attempt.
    moved: int = 0
    slowest: float = 0.0

    @property
    def requests(self) -> int:
        """All of them; one that moved counts once."""
        return self.commands + self.queries


class FailedError(Exception):
    """A request failed; it is counted already."""


@dataclass(slots=True)
class KnownUser:
    """A user as the client was told of last."""

    id: str
    email: str
    version: int
    token: str
    active: bool = True


class Counting(Protocol):
    """Who a client is of: its token, and where it counts now."""

    @property
    def bearer(self) -> dict[str, str]: ...
    @property
    def tally(self) -> Tally: ...


class Twice:
    """One service at its two addresses; counts into the tally that is current."""

    def __init__(self, traffic: Counting, urls: Sequence[str], first: int, *, changes: bool) -> None:
        self._traffic = traffic
        self._urls = urls
        self._at = first % len(urls)
        self._changes = changes
        self._http = httpx.AsyncClient(trust_env=False, timeout=ANSWER_SECONDS, headers=traffic.bearer)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def ask(self, method: str, path: str, expected: int, **sent: Any) -> httpx.Response:
        """Return the answer of the expected status.

        Raises:
            FailedError: there is none.
        """
        tally, began = self._traffic.tally, time.monotonic()
        if self._changes:
            tally.commands += 1
        else:
            tally.queries += 1
        try:
            answer, attempts = await self._attempt(method, path, sent)
        except httpx.HTTPError as error:
            raise self.failed(method, path, repr(error)) from error
        finally:
            tally.slowest = max(tally.slowest, time.monotonic() - began)
        tally.moved += attempts > 1
        if answer.status_code != expected:
            raise self.failed(method, path, f"{answer.status_code} {answer.text[:300]}")
        return answer

    async def _attempt(self, method: str, path: str, sent: dict[str, Any]) -> tuple[httpx.Response, int]:
        for attempt in range(1, ATTEMPTS + 1):
            request = self._http.build_request(method, self._urls[self._at] + path, **sent)
            try:
                answer = await self._http.send(request, stream=True)
            except GONE:
                self._at = (self._at + 1) % len(self._urls)
                if attempt == ATTEMPTS:
                    raise
                continue
            try:
                await answer.aread()
            finally:
                await answer.aclose()
            return answer, attempt
        raise AssertionError("the last attempt returns or raises")

    def failed(self, method: str, path: str, what: str) -> FailedError:
        """Count a failure, and return the error to raise."""
        tally = self._traffic.tally
        tally.failed += 1
        if len(tally.failures) < KEPT_FAILURES:
            tally.failures.append(f"{method} {path}: {what}")
        return FailedError(what)


class Traffic:
    """All clients, and what they count, stretch by stretch."""

    def __init__(self, commands: Sequence[str], queries: Sequence[str], bearer: dict[str, str], clients: int) -> None:
        self.bearer = bearer
        self.tallies: dict[str, Tally] = {}
        self.tally = Tally()
        self._over = asyncio.Event()
        self._clients = [
            Client(Twice(self, commands, n, changes=True), Twice(self, queries, n // 2, changes=False), n)
            for n in range(clients)
        ]

    def stretch(self, name: str) -> None:
        """Count what begins from now on under this name."""
        self.tally = self.tallies.setdefault(name, Tally())

    @property
    def requests(self) -> int:
        """How many there were in all."""
        return sum(tally.requests for tally in self.tallies.values())

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return sum(tally.failed for tally in self.tallies.values())

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """Send commands and queries until the block ends; then read back all that was acknowledged."""
        self._over.clear()
        tasks = [asyncio.create_task(client.work(self._over)) for client in self._clients]
        try:
            yield
        finally:
            self._over.set()
            await asyncio.gather(*tasks)
        await asyncio.gather(*(client.look_back() for client in self._clients))

    @property
    def known(self) -> dict[str, int]:
        """The version of each user of which a client knows what it is."""
        return {user.id: user.version for client in self._clients for user in client.users}

    async def until(self, requests: int) -> None:
        """Wait until so many requests were made in this stretch.

        Raises:
            TimeoutError: they were not, within STRETCH_SECONDS.
        """
        async with asyncio.timeout(STRETCH_SECONDS):
            while self.tally.requests < requests:  # noqa: ASYNC110 - clients count, and set no event
                await asyncio.sleep(PACE_SECONDS)

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(client.close() for client in self._clients))


class Client:
    """One client; it does one thing after the other, with users of its own."""

    def __init__(self, commands: Twice, queries: Twice, number: int) -> None:
        self._commands = commands
        self._queries = queries
        self._rng = random.Random(number)
        #: Those whose state it knows.
        self.users: list[KnownUser] = []

    async def work(self, over: asyncio.Event) -> None:
        """Change and read, until it is over."""
        while not over.is_set():
            try:
                await self._turn()
            except FailedError:
                continue
            await asyncio.sleep(self._rng.uniform(0, 2 * PACE_SECONDS))

    async def look_back(self) -> None:
        """Read every user of one's own once more: what was acknowledged is there."""
        for user in self.users:
            try:
                await self._read(user)
            except FailedError:
                continue

    async def close(self) -> None:
        """Close its connections."""
        await self._commands.close()
        await self._queries.close()

    async def _turn(self) -> None:
        kind = self._rng.choices([*KINDS], [*KINDS.values()])[0]
        if kind == "register" or not self.users:
            await self._register()
        else:
            user = self._rng.choice(self.users)
            try:
                await self._change(kind, user)
            except FailedError:
                # Nobody knows what that user is now.
                self.users = [one for one in self.users if one is not user]
                raise
        if self.users and self._rng.random() < 0.6:
            await self._read(self._rng.choice(self.users))
        if self._rng.random() < 0.2:
            page = await self._queries.ask("GET", "/users", 200, params={"sort": "-created_at", "limit": "20"})
            if more := page.json()["next_cursor"]:
                await self._queries.ask(
                    "GET", "/users", 200, params={"sort": "-created_at", "limit": "20", "cursor": more}
                )

    async def _register(self) -> None:
        name = uuid4().hex
        body = {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
        answer = await self._send("POST", "/users", 201, body)
        made = KnownUser(answer.json()["id"], body["email"], 0, "")
        self._note(made, answer)
        self.users = [*self.users[-OWN_USERS + 1 :], made]

    async def _change(self, kind: str, user: KnownUser) -> None:
        mark, path = uuid4().hex, f"/users/{user.id}"
        if kind == "erase":
            self.users.remove(user)
            await self._send("DELETE", path, 204, None)
            return
        if kind == "activity" or not user.active:
            answer = await self._send("POST", f"{path}/{'deactivate' if user.active else 'reactivate'}", 200, None)
            user.active = not user.active
        elif kind == "verify":
            body = {"identifier": user.email, "password": PASSWORD}
            await self._commands.ask("POST", "/credentials/verify", 200, json=body)
            return
        elif kind == "password":
            # The same again: it is verified, too.
            answer = await self._send("PUT", f"{path}/password", 204, {"password": PASSWORD})
        elif kind == "email":
            user.email = f"{mark}@example.org"
            answer = await self._send("PUT", f"{path}/email", 200, {"email": user.email})
        elif kind == "username":
            answer = await self._send("PUT", f"{path}/username", 200, {"username": mark})
        else:
            answer = await self._send("PATCH", f"{path}/profile", 200, {"display_name": mark})
        self._note(user, answer)

    async def _send(self, method: str, path: str, expected: int, body: dict[str, str] | None) -> httpx.Response:
        headers = {"Idempotency-Key": uuid4().hex}
        return await self._commands.ask(method, path, expected, headers=headers, **({"json": body} if body else {}))

    @staticmethod
    def _note(user: KnownUser, answer: httpx.Response) -> None:
        user.version = int(answer.headers["ETag"].strip('"'))
        user.token = answer.headers["Consistency-Token"]

    async def _read(self, user: KnownUser) -> None:
        headers = {"Consistency-Token": user.token, "Prefer": WAIT}
        path, wanted = f"/users/{user.id}", user.version
        answer = await self._queries.ask("GET", path, 200, headers=headers)
        if (version := answer.json()["version"]) < wanted:
            raise self._queries.failed("GET", path, f"version {version}, not {wanted}")
