"""Fixtures of every test that needs servers: real PostgreSQL and Kafka, started once per run (tests/infrastructure.py).

Each test gets databases and topics of its own, so tests do not see each other's rows or events.
"""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import hypothesis
import pytest
import structlog
from pydantic import SecretStr

from chassis.kafka.client import admin, ensure_topics
from chassis.settings import Kafka, PostgresAddress, Topics
from local_stack.postgres.server import ServerAddress
from outbox.topics import wanted_topics
from tests.databases import prepare_command, prepare_query
from tests.infrastructure import InfrastructureError, Servers, SharedServers, choose, throwaway_folder

#: The reason of what is skipped where there is no browser, or no Node.
_LOUD = "NOTHING WAS TRIED"
#: Two processes of one run may be told to use the same server.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "alone")
COMMAND_TEMPLATE = f"muster_command_{_WORKER}"
QUERY_TEMPLATE = f"muster_query_{_WORKER}"


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The servers of this run."""
    with SharedServers() as shared:
        yield shared.servers


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """A folder for a test's private servers, reachable by PostgreSQL's user and removed at the end."""
    folder = throwaway_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def kafka(servers: Servers) -> Kafka:
    """How to reach the broker as one who may do everything."""
    return Kafka.model_validate(servers.kafka)


def kafka_variables(kafka: Kafka) -> dict[str, str]:
    """The variables that spell these settings, for processes."""
    password = kafka.kafka_sasl_password
    given = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.kafka_bootstrap_servers,
        "KAFKA_SECURITY_PROTOCOL": kafka.kafka_security_protocol,
        "KAFKA_SASL_MECHANISM": kafka.kafka_sasl_mechanism,
        "KAFKA_SASL_USERNAME": kafka.kafka_sasl_username or "",
        "KAFKA_SASL_PASSWORD": password.get_secret_value() if password else "",
    }
    return {name: value for name, value in given.items() if value}


@pytest.fixture
async def topics(kafka: Kafka) -> Topics:
    """The events topic and the relay's topic, created under names that no other test uses."""
    return await make_topics(kafka)


async def make_topics(kafka: Kafka, partitions: int = 12) -> Topics:
    """Create topics with names of their own."""
    unique = uuid4().hex[:12]
    names = Topics(_env_file=None).model_copy(
        update={
            "events_topic": f"users.events.{unique}",
            "relay_topic": f"outbox.relay.{unique}",
            "topic_partitions": partitions,
        }
    )
    async with admin(kafka) as client:
        await ensure_topics(client, wanted_topics(names))
    return names


@pytest.fixture(scope="session")
def templates(servers: Servers) -> dict[str, str]:
    """Both databases, migrated once; tests copy them."""
    for name, prepare in ((COMMAND_TEMPLATE, prepare_command), (QUERY_TEMPLATE, prepare_query)):
        asyncio.run(recreate_database(servers, name, "template1"))
        prepare(database_address(servers, name))
    return {"command": COMMAND_TEMPLATE, "query": QUERY_TEMPLATE}


class Copies:
    """Copies of a template, one always made ahead: no test waits for its own, nor for the end of the one before."""

    def __init__(self, servers: Servers, template: str) -> None:
        self._servers = servers
        self._template = template
        self._worker = ThreadPoolExecutor(1, thread_name_prefix=f"copies-of-{template}")
        self._next = self._worker.submit(self._make)
        self._dropped: list[Future[None]] = []

    @asynccontextmanager
    async def one(self) -> AsyncIterator[PostgresAddress]:
        """A database of the block's own."""
        made, self._next = self._next, self._worker.submit(self._make)
        address = await asyncio.wrap_future(made)
        yield address
        self._dropped.append(self._worker.submit(self._drop, address))

    def close(self) -> None:
        """Leave none behind; raises what went wrong with any."""
        self._dropped.append(self._worker.submit(self._drop, self._next.result()))
        for dropped in self._dropped:
            dropped.result()
        self._worker.shutdown()

    def _make(self) -> PostgresAddress:
        name = f"{self._template}_{uuid4().hex[:12]}"
        asyncio.run(create_database(self._servers, name, self._template))
        return database_address(self._servers, name)

    def _drop(self, address: PostgresAddress) -> None:
        asyncio.run(drop_database(self._servers, address.database))


@pytest.fixture(scope="session")
def command_databases(servers: Servers, templates: dict[str, str]) -> Iterator[Copies]:
    """Empty command databases, as many as a test wants."""
    with closing(Copies(servers, templates["command"])) as copies:
        yield copies


@pytest.fixture(scope="session")
def query_databases(servers: Servers, templates: dict[str, str]) -> Iterator[Copies]:
    """Empty query databases, every projection's first generation serving."""
    with closing(Copies(servers, templates["query"])) as copies:
        yield copies


@pytest.fixture
async def command_database(command_databases: Copies) -> AsyncIterator[PostgresAddress]:
    """An empty command database."""
    async with command_databases.one() as address:
        yield address


@pytest.fixture
async def query_database(query_databases: Copies) -> AsyncIterator[PostgresAddress]:
    """An empty query database, every projection's first generation serving."""
    async with query_databases.one() as address:
        yield address


def database_address(servers: Servers, name: str) -> PostgresAddress:
    """The address of one database on the shared server."""
    return replace(address_on(servers.postgres, name), pool_size=4, max_overflow=6)


def address_on(server: ServerAddress, database: str) -> PostgresAddress:
    """The address of one database on a server."""
    return PostgresAddress(
        server=server.host,
        port=server.port,
        user=server.user,
        password=SecretStr(server.password),
        database=database,
    )


async def recreate_database(servers: Servers, name: str, template: str) -> None:
    """Make a database as a copy of another."""
    await drop_database(servers, name)
    await create_database(servers, name, template)


async def create_database(servers: Servers, name: str, template: str) -> None:
    """Make a database that is not there yet as a copy of another."""
    await _administer(servers, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')


async def drop_database(servers: Servers, name: str) -> None:
    """Remove a database, whoever is still connected to it."""
    await _administer(servers, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


async def _administer(servers: Servers, statement: str) -> None:
    connection = await asyncpg.connect(**database_address(servers, "postgres").connect_arguments)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


# How long an example takes says how busy the machine is, and nothing of the code.
hypothesis.settings.register_profile("muster", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("muster")


def pytest_configure() -> None:
    """Hear Ctrl-C, and let our processes hear it: a shell makes what it runs in the background deaf to it.

    A traceback is written plainly: to draw one with every local variable takes a second, and nobody reads those here.
    """
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    """Say once which servers the tests use; nothing is started before a test asks for it."""
    try:
        return f"servers: {choose().words}"
    except InfrastructureError as error:
        return f"servers: {error}"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, object, object]:
    """Say below the counts that there was no browser or Node: nobody reads the reasons of what was skipped."""
    result = yield
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter is not None else []
    reasons = {report.longrepr[2].removeprefix("Skipped: ") for report in skipped}
    for reason in sorted(each for each in reasons if each.startswith(_LOUD)):
        reporter.write_line(reason, red=True, bold=True)
    return result
