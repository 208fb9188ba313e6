"""Fixtures of every test that needs servers: real PostgreSQL and Kafka, started once per run (tests/infrastructure.py).

Each test gets databases and topics of its own, so tests do not see each other's rows or events.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from pydantic import SecretStr

from chassis.kafka import admin, ensure_topics
from chassis.settings import Kafka, PostgresAddress, Topics
from command_api.migrate import migrate as migrate_command
from outbox.topics import wanted_topics
from projectors.migrate import migrate as migrate_query
from tests.infrastructure import InfrastructureError, Servers, SharedServers, choose, throwaway_folder

COMMAND_TEMPLATE = "muster_command_template"
QUERY_TEMPLATE = "muster_query_template"


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
    """How to reach the broker."""
    return Kafka.model_construct(kafka_bootstrap_servers=servers.kafka_bootstrap)


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
    for name, migrate in ((COMMAND_TEMPLATE, migrate_command), (QUERY_TEMPLATE, migrate_query)):
        asyncio.run(recreate_database(servers, name, "template1"))
        migrate(database_address(servers, name))
    return {"command": COMMAND_TEMPLATE, "query": QUERY_TEMPLATE}


@pytest.fixture
async def command_database(servers: Servers, templates: dict[str, str]) -> AsyncIterator[PostgresAddress]:
    """An empty command database."""
    name = f"command_{uuid4().hex[:12]}"
    await recreate_database(servers, name, templates["command"])
    yield database_address(servers, name)
    await drop_database(servers, name)


@pytest.fixture
async def query_database(servers: Servers, templates: dict[str, str]) -> AsyncIterator[PostgresAddress]:
    """An empty query database, every projection's first generation serving."""
    name = f"query_{uuid4().hex[:12]}"
    await recreate_database(servers, name, templates["query"])
    yield database_address(servers, name)
    await drop_database(servers, name)


def database_address(servers: Servers, name: str) -> PostgresAddress:
    """The address of one database on the shared server."""
    server = servers.postgres
    return PostgresAddress(
        server=server.host,
        port=server.port,
        user=server.user,
        password=SecretStr(server.password),
        database=name,
        pool_size=4,
        max_overflow=6,
    )


async def recreate_database(servers: Servers, name: str, template: str) -> None:
    """Make a database as a copy of another."""
    await drop_database(servers, name)
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


def pytest_report_header() -> str:
    """Say once which servers the tests use; nothing is started before a test asks for it."""
    try:
        return f"servers: {choose().words}"
    except InfrastructureError as error:
        return f"servers: {error}"
