"""Whatever one of three brokers and two PostgreSQL servers does, commands flow and nothing is lost: `make failover`.

What `muster up --brokers 3 --standby --synchronous` runs, with clients that register people and read all the while.
"""

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

import httpx
import pytest
from rich.console import Console

from chassis.kafka.client import admin
from chassis.lifecycle import wait_for_event
from chassis.settings import Kafka
from cli.access.scopes import SCOPES
from cli.stack.local_stack import LocalStack, muster
from cli.stack.screen import Screen
from cli.stack.settings import ALL_PARTS, CONSOLE, HTTP_PORTS, Ports
from local_stack.issuer import open_issuer
from local_stack.kafka.broker import KafkaServer
from local_stack.ports import free_ports
from local_stack.servers import ServerSet
from tests.acceptance.stack import clean_environment, run_muster
from tests.infrastructure import throwaway_folder
from tests.servers.port_rows import in_a_row
from tests.waiting import until

#: What a relay needs for a frozen broker, and a client for a frozen primary, is told by what it prints; this is a hang.
AWAY_SECONDS: Final = 120.0
#: A broker that comes back fetches what it missed.
WHOLE_SECONDS: Final = 120.0
#: Longer than any answer of an API.
ANSWER_SECONDS: Final = 30.0
PAUSE_SECONDS: Final = 0.05
TOKEN_LIFETIME: Final = timedelta(hours=2)


@dataclass
class Clients:
    """They register people and read them, and keep what they were told."""

    http: httpx.AsyncClient
    stack: LocalStack
    #: Where the query API has each person whose registration was acknowledged, and the token that says it is there.
    acknowledged: dict[str, str] = field(default_factory=dict)
    #: What was answered to commands and to queries when it was not yes.
    refused: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    async def register(self) -> str | None:
        """Register somebody; gives where to read of them, or None where it was not acknowledged."""
        name = f"user-{uuid4().hex[:16]}"
        body = {"email": f"{name}@example.com", "username": name, "password": "correct horse"}
        url = f"{self.stack.settings['PUBLIC_COMMAND_URL']}/users"
        answer = await self._ask(self.refused, "POST", url, json=body)
        if answer is None:
            return None
        self.acknowledged[answer.headers["Location"]] = answer.headers["Consistency-Token"]
        return str(answer.headers["Location"])

    async def is_read(self, location: str) -> bool:
        """Whether the query API has whatever was acknowledged of this person."""
        headers = {"Consistency-Token": self.acknowledged[location], "Prefer": "wait=1"}
        return await self._ask([], "GET", location, headers=headers) is not None

    async def keep_registering(self, stopping: asyncio.Event) -> None:
        """One command after the other."""
        while not await wait_for_event(stopping, PAUSE_SECONDS):
            await self.register()

    async def keep_reading(self, location: str, stopping: asyncio.Event) -> None:
        """Read of one person who is there, again and again."""
        while not await wait_for_event(stopping, PAUSE_SECONDS):
            await self._ask(self.unread, "GET", location)

    async def _ask(self, failures: list[str], method: str, url: str, **more: object) -> httpx.Response | None:
        try:
            answer = await self.http.request(method, url, **more)  # type: ignore[arg-type] # as httpx has them
        except httpx.HTTPError as error:
            failures.append(repr(error))
            return None
        if answer.is_success:
            return answer
        failures.append(f"{answer.status_code} {answer.text}")
        return None


@pytest.fixture
async def stack() -> AsyncIterator[LocalStack]:
    folder = throwaway_folder()
    try:
        with (folder / "screen.txt").open("w") as screen:
            stack = LocalStack(
                folder / "stack",
                ports(),
                Screen(Console(file=screen, width=200)),
                program=muster(),
                started_at=datetime.now(UTC),
                only=ALL_PARTS - {CONSOLE},
                chosen=ServerSet(brokers=3, standby=True, synchronous=True),
            )
            stack.folder.mkdir()
            stack.plan()
            try:
                await stack.start()
                stack.ready(datetime.now(UTC))
                yield stack
            finally:
                hasten = asyncio.Event()
                hasten.set()
                await stack.stop(hasten)
    finally:
        shutil.rmtree(folder)


def ports() -> Ports:
    return Ports(in_a_row(2), in_a_row(3), *free_ports(len(HTTP_PORTS)))


async def test_commands_flow_whatever_one_server_does(stack: LocalStack, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    async with httpx.AsyncClient(headers=bearer(stack), timeout=ANSWER_SECONDS) as http:
        clients = Clients(http, stack)
        async with working(clients):
            for broker in stack.servers.brokers:
                await broker.kill()
                said.append(await goes_on(clients, f"{broker.name} was killed"))
                await until_whole(stack)
            for broker in stack.servers.brokers:
                broker.pause()
                said.append(await goes_on(clients, f"{broker.name} is frozen"))
                broker.resume()
                await until_whole(stack)
            for broker in stack.servers.brokers:
                await roll(broker)
                said.append(await goes_on(clients, f"{broker.name} was restarted"))
                await until_whole(stack)
            assert clients.refused == [], "a command needs no broker"

            assert stack.servers.standby is not None
            stack.servers.postgres.pause()  # it is never woken again: that is its fence
            await stack.servers.standby.promote()
            said.append(await goes_on(clients, "PostgreSQL is frozen and its standby promoted"))
            refused = len(clients.refused)
            said.append(await goes_on(clients, "the standby is the primary"))
            assert len(clients.refused) == refused, "what was refused was refused at the failover"

        assert clients.unread == [], "queries need no broker and no primary"
        for location in clients.acknowledged:
            await until(lambda location=location: clients.is_read(location), within=AWAY_SECONDS, what=location)  # type: ignore[misc]
        code, out, err = await run_muster(
            "audit", "--json", environment=clean_environment() | stack.settings, folder=stack.folder
        )
    assert code == 0, out + err
    assert json.loads(out)["compared"] >= len(clients.acknowledged)
    with capsys.disabled():
        print("", *said, f"{len(clients.acknowledged)} acknowledged, {refused} refused, 0 lost", sep="\n")  # noqa: T201


def bearer(stack: LocalStack) -> dict[str, str]:
    issuer = open_issuer(stack.folder / "issuer")
    token = issuer.token(subject="failover", scopes=SCOPES, lifetime=TOKEN_LIFETIME, now=datetime.now(UTC))
    return {"Authorization": f"Bearer {token}"}


@asynccontextmanager
async def working(clients: Clients) -> AsyncIterator[None]:
    """Have both kinds of clients work until the block ends."""
    location = await clients.register()
    assert location is not None
    await until(lambda: clients.is_read(location), within=AWAY_SECONDS, what="the first to be read")
    stopping = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(clients.keep_registering(stopping))
        group.create_task(clients.keep_reading(location, stopping))
        try:
            yield
        finally:
            stopping.set()


async def goes_on(clients: Clients, what: str) -> str:
    """Wait until somebody who comes now is registered and can be read; says how long each took."""
    began = time.monotonic()
    location = str(await until(clients.register, within=AWAY_SECONDS, what=f"a command while {what}"))
    taken = time.monotonic()
    await until(lambda: clients.is_read(location), within=AWAY_SECONDS, what=f"an event while {what}")
    return f"{what}: command in {taken - began:.1f} s, read {time.monotonic() - taken:.1f} s after"


async def roll(broker: KafkaServer) -> None:
    """End it in order; the stack starts it again."""
    former = broker.pid
    broker.signal(broker.stop_signal)

    async def is_back() -> bool:
        return broker.pid not in {None, former} and await broker.is_ready()

    await until(is_back, within=WHOLE_SECONDS, what=f"{broker.name} to be back")


async def until_whole(stack: LocalStack) -> None:
    """Wait until each of three brokers has all of every topic, so that any of them may go."""
    kafka = Kafka.model_validate(stack.servers.kafka.client_settings())

    async def is_whole() -> bool:
        try:
            async with admin(kafka) as client:
                topics = await client.describe_topics()
        except (OSError, RuntimeError):  # one of them is only coming back
            return False
        partitions = [each for topic in topics for each in topic["partitions"]]
        return all(len(each["isr"]) == len(stack.servers.brokers) for each in partitions)

    await until(is_whole, within=WHOLE_SECONDS, what="every copy to be there")
