"""A relay's settings for servers of a test's own, to be killed and paused."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

import asyncpg

from local_stack.kafka.broker import KafkaServer
from local_stack.postgres.server import PostgresServer
from outbox.settings import RelaySettings
from tests.conftest import address_on, make_topics
from tests.databases import prepare_command
from tests.integration.outbox.relaying import settings_for
from tests.integration.outbox.traffic import Connection
from tests.servers.private_servers import PrivateServers, make_database


@dataclass(frozen=True, slots=True)
class Private:
    """Servers, and a relay's settings for a database and topics on them."""

    postgres: PostgresServer
    kafka: KafkaServer
    settings: RelaySettings

    @classmethod
    async def on(cls, servers: PrivateServers) -> Self:
        """Make database and topics."""
        topics = await make_topics(servers.brokers)
        settings = settings_for(
            await make_database(servers.postgres, prepare_command),
            servers.brokers,
            topics,
            relay_name=topics.relay_topic,
            relay_transaction_timeout_ms=2000,
            relay_standby_poll_ms=50,
        )
        return cls(servers.postgres, servers.kafka, settings)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """A session on the command database."""
        address = address_on(self.postgres.address, self.settings.command_postgres_db)
        connection = await asyncpg.connect(**address.connect_arguments)
        try:
            yield connection
        finally:
            await connection.close()
