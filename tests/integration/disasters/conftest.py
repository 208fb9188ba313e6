"""What an installation of a test's own is told, and a client of its commands."""

from collections.abc import AsyncIterator

import httpx
import pytest

from chassis.settings import Kafka, PostgresAddress, Topics
from command_api.app import create_app
from local_stack.ports import free_port
from tests.integration.command_api.conftest import make_settings, serving
from tests.integration.muster_processes import environment
from tests.integration.projectors.conftest import database, settings

__all__ = ["database", "settings"]


@pytest.fixture
def variables(
    kafka: Kafka, topics: Topics, command_database: PostgresAddress, query_database: PostgresAddress
) -> dict[str, str]:
    return environment(
        kafka, topics, command_database, query_database,
        RELAY_HTTP_PORT=str(free_port()), PROJECTORS_HTTP_PORT=str(free_port()),
    )  # fmt: skip


@pytest.fixture
async def api(command_database: PostgresAddress) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(create_app(make_settings(command_database))) as client:
        yield client
