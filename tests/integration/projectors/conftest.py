"""What the projectors' tests share: settings of a test's own database and topic, and processes that end with it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chassis.postgres.database import Database
from chassis.postgres.roles import OPERATOR, PROJECTORS
from chassis.settings import Kafka, PostgresAddress, Topics
from projectors.settings import ProjectorSettings
from tests.databases import as_role
from tests.integration.projectors.stream import Publisher


def make_settings(kafka: Kafka, topics: Topics, address: PostgresAddress, **limits: object) -> ProjectorSettings:
    """Settings as the environment would give them, for a port that the system chooses."""
    address = as_role(address, PROJECTORS)
    values: dict[str, Any] = {
        **kafka.model_dump(),
        **topics.model_dump(),
        "query_postgres_user": address.user,
        "query_postgres_password": address.password,
        "query_postgres_server": address.server,
        "query_postgres_port": address.port,
        "query_postgres_db": address.database,
        "query_postgres_pool_size": 8,
        "query_postgres_max_overflow": 0,
        "projectors_http_port": 0,
        "projectors_group": topics.events_topic,
        **limits,
    }
    return ProjectorSettings.model_construct(**values)


@pytest.fixture
def settings(kafka: Kafka, topics: Topics, query_database: PostgresAddress) -> ProjectorSettings:
    """The settings of a projectors process of this test's own."""
    return make_settings(kafka, topics, query_database)


@pytest.fixture
async def database(query_database: PostgresAddress) -> AsyncIterator[Database]:
    """The query database of this test, as an operator, who may do all that projectors may."""
    async with Database.open(as_role(query_database, OPERATOR), application="tests") as database:
        yield database


@pytest.fixture
async def publisher(kafka: Kafka, topics: Topics) -> AsyncIterator[Publisher]:
    """Publishes to the events topic as the relay does: in transactions."""
    async with Publisher.open(kafka, topics.events_topic) as publisher:
        yield publisher


@asynccontextmanager
async def running(main: Callable[[asyncio.Event], Awaitable[int | None]]) -> AsyncIterator[asyncio.Event]:
    """Run `main(stopping)` beside the test, and end it in order; an exit code other than 0 fails the test."""
    stopping = asyncio.Event()
    task = asyncio.ensure_future(main(stopping))
    try:
        yield stopping
    finally:
        stopping.set()
        assert await asyncio.wait_for(task, 30) in {0, None}
