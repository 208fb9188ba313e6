"""What the provocations act on: a whole Muster that clients use all the time, and a Prometheus that watches it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from itertools import count, cycle
from pathlib import Path
from typing import Final, TextIO

import httpx

from chassis.lifecycle import alongside
from tests.acceptance.stack import clean_environment, run_muster
from tests.alerts.prometheus import Prometheus, running
from tests.certificates import Authority, Pair
from tests.chaos.stack import ChaosStack

#: Told to a process beyond what `muster up` would: two clients fill the event API's port, and keys are fetched all the
#: time.
TOLD: Final = {"event-api": {"HTTP_CONNECTIONS": "2"}}
KEYS_REFRESHED: Final = {"AUTH_JWKS_REFRESH_SECONDS": "1"}
#: Whose names change.
USERS: Final = 20
#: Between two requests of a client.
PACE_SECONDS: Final = 0.1


class WatchedStack(ChaosStack):
    """A stack some of whose processes are told more."""

    def certify(self, lifetime: timedelta) -> Pair:
        """Give the query API a certificate with which to reach its database, good for so long."""
        folder = self.folder / "certificates"
        folder.mkdir(exist_ok=True)
        return Authority(folder).sign("query-api", lifetime=lifetime)

    def _environment(self, part: str) -> Mapping[str, str]:
        told = {**super()._environment(part), **KEYS_REFRESHED, **TOLD.get(part, {})}
        if part == "query-api":
            certificate, key = map(str, self.certify(timedelta(days=90)))
            told |= {"QUERY_POSTGRES_SSLCERT": certificate, "QUERY_POSTGRES_SSLKEY": key}
        return told

    @property
    def scraped(self) -> dict[str, int]:
        """The port at which each process tells of itself."""
        ports = self.ports
        return {
            "command-api": ports.command_ops,
            "query-api": ports.query_ops,
            "event-api": ports.events_ops,
            "relay": ports.relay,
            "projectors": ports.projectors,
        }


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything that runs."""

    stack: WatchedStack
    prometheus: Prometheus
    commands: httpx.AsyncClient
    queries: httpx.AsyncClient
    events: httpx.AsyncClient

    async def muster(self, *arguments: str) -> str:
        """What a command of the CLI prints, which must succeed."""
        code, out, err = await run_muster(
            *arguments, environment=clean_environment() | self.stack.settings, folder=self.stack.folder
        )
        assert code == 0, out + err
        return out


@asynccontextmanager
async def opened(folder: Path, screen: TextIO, program: str) -> AsyncIterator[Stage]:
    """Start it all, and end it with the block."""
    stack = WatchedStack(folder / "stack", screen)
    async with AsyncExitStack() as opening:
        await opening.enter_async_context(stack.running())
        clients = [
            await opening.enter_async_context(
                httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{port}", headers=stack.bearer(), timeout=15, trust_env=False
                )
            )
            for port in (stack.ports.command, stack.ports.query, stack.ports.events)
        ]
        commands, queries, events = clients
        users, numbers = cycle([await register(commands, number) for number in range(USERS)]), count()

        async def rename() -> None:
            await commands.patch(f"/users/{next(users)}/profile", json={"display_name": f"Name {next(numbers)}"})

        await opening.enter_async_context(alongside(again_and_again(rename)))
        await opening.enter_async_context(alongside(again_and_again(lambda: queries.get("/users"))))
        (folder / "prometheus").mkdir()
        prometheus = await opening.enter_async_context(running(program, folder / "prometheus", stack.scraped))
        yield Stage(stack, prometheus, commands, queries, events)


async def register(commands: httpx.AsyncClient, number: int) -> str:
    """Register somebody, and return their id."""
    name = f"alerted-{number}"
    body = {"email": f"{name}@example.com", "username": name, "password": "correct horse"}
    answer = (await commands.post("/users", json=body)).raise_for_status()
    return str(answer.json()["id"])


async def again_and_again(request: Callable[[], Awaitable[object]]) -> None:
    """As a client that goes on whatever it is answered, several at a time where answers take long."""
    async with asyncio.TaskGroup() as group:
        while True:
            group.create_task(_tried(request))
            await asyncio.sleep(PACE_SECONDS)


async def _tried(request: Callable[[], Awaitable[object]]) -> None:
    with suppress(httpx.HTTPError):
        await request()
