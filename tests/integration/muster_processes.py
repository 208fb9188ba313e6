"""`muster` as operators and supervisors run it: processes with an environment of their own (tests/forks.py)."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

import cli.main
from chassis.postgres.roles import ROLES
from chassis.settings import Kafka, PostgresAddress, Topics
from tests.conftest import kafka_variables
from tests.databases import PASSWORD
from tests.forks import NOWHERE, Fork
from tests.waiting import until

#: On a loaded machine.
READY_SECONDS = 60
RUN_SECONDS = 120
STOP_SECONDS = 30
#: Whatever the developer's own shell says of servers is not meant.
_OURS = (*(prefix for prefix, _ in ROLES.values()), "AUTH", "POSTGRES", "KAFKA", "TOPIC")


class Ended(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


def environment(
    kafka: Kafka, topics: Topics, command: PostgresAddress, query: PostgresAddress, **more: str
) -> dict[str, str]:
    """What every process of one test is told."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(_OURS)},
        "POSTGRES_SERVER": command.server,
        "POSTGRES_PORT": str(command.port),
        **{f"{prefix}_POSTGRES_USER": role for role, (prefix, _) in ROLES.items()},
        **{f"{prefix}_POSTGRES_PASSWORD": PASSWORD for prefix, _ in ROLES.values()},
        "COMMAND_POSTGRES_DB": command.database,
        "QUERY_POSTGRES_DB": query.database,
        "QUERY_POSTGRES_POOL_SIZE": "4",
        "COMMAND_POSTGRES_POOL_SIZE": "4",
        **kafka_variables(kafka),
        "EVENTS_TOPIC": topics.events_topic,
        "RELAY_TOPIC": topics.relay_topic,
        "RELAY_NAME": topics.events_topic,
        "PROJECTORS_GROUP": topics.events_topic,
        "CURSOR_KEYS": "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "IDEMPOTENCY_SECRET": "0123456789abcdef0123456789abcdef",
        "CREDENTIALS_SECRETS": "0123456789abcdef0123456789abcdef",
        "AUTH_DISABLED": "true",
        "COLUMNS": "200",
        **more,
    }


async def muster(variables: dict[str, str], *arguments: str, given: bytes = b"") -> Ended:
    """Run one command to its end; `given` is what it can read from standard input."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        given_file, out, err = (folder / name for name in ("given", "out", "err"))
        given_file.write_bytes(given)
        process = await Fork.start(main, *arguments, environment=variables, given=given_file, out=out, err=err)
        try:
            code = await asyncio.wait_for(process.wait(), RUN_SECONDS)
        finally:
            process.kill()
        return Ended(code, out.read_text(), err.read_text())


@asynccontextmanager
async def running(variables: dict[str, str], *arguments: str, port: int, log: Path = NOWHERE) -> AsyncIterator[None]:
    """Run a process that serves until the block ends; it is ready when the block begins."""
    process = await Fork.start(main, *arguments, environment=variables, out=NOWHERE, err=log)
    try:

        async def ready() -> bool:
            assert process.returncode is None, f"muster {' '.join(arguments)} ended"
            return await answers_ready(port)

        await until(ready, within=READY_SECONDS, what=f"muster {' '.join(arguments)} is ready")
        yield
    finally:
        process.terminate()
        code = await asyncio.wait_for(process.wait(), STOP_SECONDS)
    assert code == 0, "an orderly stop has no other exit code"


async def answers_ready(port: int) -> bool:
    """Whether a process that listens there says that it is ready."""
    async with httpx.AsyncClient(trust_env=False) as client:
        try:
            return (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
        except httpx.TransportError:
            return False


def main(*arguments: str) -> None:
    """Be `muster` with these arguments."""
    sys.argv = ["muster", *arguments]
    cli.main.main()
