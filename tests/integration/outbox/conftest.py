"""What the outbox's tests share: a session on a command database, and a relay's settings."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from chassis.settings import Kafka, PostgresAddress, Topics
from outbox.settings import RelaySettings
from tests.integration.outbox.traffic import Connection


@pytest.fixture
def relay_settings(command_database: PostgresAddress, kafka: Kafka, topics: Topics) -> RelaySettings:
    """A relay's settings for this test's database and topics, under a name of its own."""
    return RelaySettings.model_construct(
        **{
            **Topics.model_construct().model_dump(),
            **topics.model_dump(),
            "kafka_bootstrap_servers": kafka.kafka_bootstrap_servers,
            "command_postgres_server": command_database.server,
            "command_postgres_port": command_database.port,
            "command_postgres_user": command_database.user,
            "command_postgres_password": command_database.password,
            "command_postgres_db": command_database.database,
            "relay_name": f"relay-{topics.events_topic}",
            "relay_standby_poll_ms": 50,
        }
    )


@pytest.fixture
async def connection(command_database: PostgresAddress) -> AsyncIterator[Connection]:
    """A session on the command database."""
    connection = await asyncpg.connect(**command_database.connect_arguments)
    yield connection
    await connection.close()
