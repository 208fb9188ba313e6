"""A process that crashes tells where, and by which kind of error, and nothing of the people whose data it held then."""

import asyncio
import faulthandler
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import structlog

from chassis.settings import Kafka, PostgresAddress, Topics
from command_api import app as command_app
from command_api.users.commands import RegisterUser
from command_api.users.handlers import UserHandlers
from local_stack.ports import free_port
from outbox.publishing.publisher import Publisher
from projectors.projections.users import UsersWriter
from tests.forks import NOWHERE, Fork
from tests.integration.command_api.conftest import registration
from tests.integration.muster_processes import READY_SECONDS, answers_ready, environment, main
from tests.waiting import until

CANARY = "kanari"
WITHIN = 60
#: What uvicorn ends with where an app cannot start.
STARTUP_FAILURE = 3


def one_who(crash: str) -> dict[str, Any]:
    """A registration that is canary throughout, and how the process is to crash over it."""
    address = f"{crash}.{CANARY}@example.com"
    return registration(f"{crash}{CANARY}", email=address, display_name=f"{crash} {CANARY}", password=f"{CANARY} horse")


async def crash(command: RegisterUser) -> None:
    """Crash as the first word of the name says; each error quotes the person."""
    held = str(command.email)
    match str(command.display_name).split()[0]:
        case "request":
            raise KeyError(held)
        case "callback":
            asyncio.get_running_loop().call_soon(int, held)
        case "task":
            _ = asyncio.create_task(asyncio.to_thread(int, held))  # noqa: RUF006 - nobody waits for it
        case "thread":
            threading.Thread(target=int, args=[held]).start()
        case "abort":
            structlog.get_logger("planted").info("planted.holds_a_person")
            await asyncio.Event().wait()
        case _:
            raise AssertionError(command)


def over_a_registration() -> None:
    """Handlers that crash, where the name says so, before they do what they do."""
    register = UserHandlers.register
    faulthandler.enable()

    async def registered(self: UserHandlers, command: RegisterUser, context: Any) -> Any:
        await crash(command)
        return await register(self, command, context)

    UserHandlers.register = registered  # type: ignore[method-assign] # that is the bug


def at_the_start() -> None:
    """A server that quotes a row while the API starts."""

    def refused(_: object) -> AbstractAsyncContextManager[None]:
        error = asyncpg.CheckViolationError("violates a check")
        error.detail = f"Failing row contains ({CANARY}@example.com)."
        raise error

    vars(command_app)["open_resources"] = refused


def over_an_outbox_row() -> None:
    """A relay that stumbles once over a row's value."""
    prepare, stumbled = Publisher.prepare, threading.Event()

    async def prepared(self: Publisher, rows: Sequence[Any]) -> Any:
        if rows and not stumbled.is_set():
            stumbled.set()
            raise RuntimeError(f"cannot read {rows[0]['value']!r}")
        return await prepare(self, rows)

    Publisher.prepare = prepared  # type: ignore[method-assign] # as above


def over_a_record() -> None:
    """Projectors that stumble once over a person, in a way that no record can be blamed for."""
    stumbled = threading.Event()

    def stumble(self: UsersWriter, events: Sequence[Any]) -> Any:
        if not stumbled.is_set():
            stumbled.set()
            raise RuntimeError(f"cannot write {events[0].state!r}")
        return as_insert(self, events)

    as_insert = UsersWriter.as_insert
    UsersWriter.as_insert = stumble  # type: ignore[method-assign] # as above


def be_muster(plant: Callable[[], None], *arguments: str) -> None:
    """`muster` with a fault of ours in it."""
    plant()
    main(*arguments)


@asynccontextmanager
async def crashing(
    variables: dict[str, str], plant: Callable[[], None], *arguments: str, log: Path
) -> AsyncIterator[Fork]:
    process = await Fork.start(be_muster, plant, *arguments, environment=variables, out=NOWHERE, err=log)
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


def read(log: Path) -> str:
    return log.read_text(encoding="utf-8")


async def until_told(log: Path, what: str) -> None:
    async def told() -> bool:
        return what in read(log)

    await until(told, within=WITHIN, what=f"{what} in {log.name}")


async def test_what_crashes_says_where_and_nothing_of_anybody(
    kafka: Kafka, topics: Topics, command_database: PostgresAddress, query_database: PostgresAddress, tmp_path: Path
) -> None:
    ports = {name: str(free_port()) for name in ("RELAY_HTTP_PORT", "PROJECTORS_HTTP_PORT", "COMMAND_API_OPS_PORT")}
    port = free_port()
    variables = environment(kafka, topics, command_database, query_database, LOG_LEVEL="DEBUG", **ports)
    logs = {name: tmp_path / f"{name}.log" for name in ("command", "relay", "project", "start")}
    serving = partial(crashing, variables)
    async with (
        serving(over_a_registration, "serve", "command", "--port", str(port), log=logs["command"]) as api,
        serving(over_an_outbox_row, "relay", log=logs["relay"]),
        serving(over_a_record, "project", log=logs["project"]),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=WITHIN) as client,
    ):
        await until(partial(answers_ready, port), within=READY_SECONDS, what="the command API")
        for how, status, said in (
            ("request", 500, "KeyError"),
            ("callback", 201, "Exception in callback"),
            ("task", 201, "Task exception was never retrieved"),
            ("thread", 201, "thread.crashed"),
        ):
            answer = await client.post("/users", json=one_who(how))
            assert answer.status_code == status, answer.text
            assert status == 201 or CANARY not in answer.text
            await until_told(logs["command"], said)
        await until_told(logs["relay"], "RuntimeError: cannot read")
        await until_told(logs["project"], "feed.batch_failed")
        held = asyncio.create_task(client.post("/users", json=one_who("abort")))
        await until_told(logs["command"], "planted.holds_a_person")
        os.kill(api.pid, signal.SIGABRT)
        assert await api.wait() == -signal.SIGABRT
        [outcome] = await asyncio.gather(held, return_exceptions=True)
        assert isinstance(outcome, httpx.TransportError)
    async with serving(at_the_start, "serve", "command", "--port", str(port), log=logs["start"]) as never:
        assert await asyncio.wait_for(never.wait(), WITHIN) == STARTUP_FAILURE

    written = {name: read(log) for name, log in logs.items()}
    assert "Fatal Python error: Aborted" in written["command"]
    assert "violates a check" in written["start"]
    assert [line for text in written.values() for line in text.splitlines() if CANARY in line.lower()] == []
