"""The event API behind a real server, over topics of a test's own."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from chassis.settings import Kafka, Topics
from event_api.app import create_app
from event_api.settings import EventApiSettings
from tests.conftest import kafka_variables
from tests.integration.projectors.stream import Publisher
from tests.integration.query_api.real_server import served
from tests.issuing import auth, bearer

SECRET = "a-secret-of-32-characters-or-more"


def make_settings(kafka: Kafka, topics: Topics, **more: Any) -> EventApiSettings:
    """Settings for a topic; more are given by their variables' names."""
    values = {
        **kafka_variables(kafka),
        "EVENTS_TOPIC": topics.events_topic,
        "EVENT_API_SECRETS": SECRET,
        **auth(),
        **more,
    }
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
