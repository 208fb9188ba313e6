"""What the outbox's tests share: a session on a command database, and a relay's settings."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from chassis.settings import Kafka, PostgresAddress, Topics
from outbox.settings import RelaySettings
from tests.integration.outbox.relaying import settings_for
from tests.integration.outbox.traffic import Connection


@pytest.fixture
def relay_settings(command_database: PostgresAddress, kafka: Kafka, topics: Topics) -> RelaySettings:
    """A relay's settings for this test's database and topics, under a name of its own."""
    return settings_for(
        command_database, kafka, topics, relay_name=f"relay-{topics.events_topic}", relay_standby_poll_ms=50
    )


@pytest.fixture
async def connection(command_database: PostgresAddress) -> AsyncIterator[Connection]:
    """A session on the command database."""
    connection = await asyncpg.connect(**command_database.connect_arguments)
    yield connection
    await connection.close()


@pytest.fixture
async def other(command_database: PostgresAddress) -> AsyncIterator[Connection]:
    """A second session."""
    connection = await asyncpg.connect(**command_database.connect_arguments)
    yield connection
    await connection.close()
