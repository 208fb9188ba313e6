"""The event API behind a real server, over topics of a test's own."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from chassis.postgres.roles import EVENTS
from chassis.settings import Kafka, PostgresAddress, Topics
from event_api.app import create_app
from event_api.settings import EventApiSettings
from local_stack.secret_values import make_secret
from tests.conftest import kafka_variables
from tests.databases import as_role
from tests.integration.projectors.stream import Publisher
from tests.integration.query_api.real_server import served
from tests.issuing import auth, bearer
from tests.servers.private_servers import nowhere

SECRET = "a-secret-of-32-characters-or-more"
RECEIPTS_KEY = make_secret("RECEIPTS_KEY")


def variables(kafka: Kafka, topics: Topics, database: PostgresAddress | None = None) -> dict[str, str]:
    """What a process is told of a topic, and of a database, without which all but receipts works."""
    address = as_role(database or nowhere(), EVENTS)
    return {
        "EVENTS_POSTGRES_USER": address.user,
        "EVENTS_POSTGRES_PASSWORD": address.password.get_secret_value(),
        "QUERY_POSTGRES_SERVER": address.server,
        "QUERY_POSTGRES_PORT": str(address.port),
        "QUERY_POSTGRES_DB": address.database,
        "RECEIPTS_KEY": RECEIPTS_KEY,
        **kafka_variables(kafka),
        "EVENTS_TOPIC": topics.events_topic,
        "EVENT_API_SECRETS": SECRET,
        **auth(),
    }


def make_settings(
    kafka: Kafka, topics: Topics, database: PostgresAddress | None = None, **more: Any
) -> EventApiSettings:
    """The same as settings; more by their variables' names."""
    values: dict[str, Any] = {**variables(kafka, topics, database), **more}
    return EventApiSettings(_env_file=None, **values)


@asynccontextmanager
async def client_of(url: str, scopes: list[str] | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client with these scopes."""
    headers = bearer("shop", scopes or ["events:read"])
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
        yield client


@pytest.fixture
def url(kafka: Kafka, topics: Topics) -> Iterator[str]:
    """Where one process of it serves."""
    with served(create_app(make_settings(kafka, topics))) as url:
        yield url


@pytest.fixture
async def api(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(url) as client:
        yield client


@pytest.fixture
async def publisher(kafka: Kafka, topics: Topics) -> AsyncIterator[Publisher]:
    async with Publisher.open(kafka, topics.events_topic) as publisher:
        yield publisher
