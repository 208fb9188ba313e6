"""PostgreSQL and Kafka of one test's own, to be killed and paused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from pydantic import SecretStr

from chassis.settings import Kafka, PostgresAddress
from command_api.migrate import migrate
from local_stack.kafka import KafkaServer
from local_stack.postgres import PostgresServer
from outbox.settings import RelaySettings
from tests.conftest import make_topics
from tests.integration.outbox.relaying import settings_for
from tests.integration.outbox.traffic import Connection

DATABASE = "muster_command"


@dataclass(frozen=True, slots=True)
class Private:
    """Servers of this test's own, and a relay's settings for them."""

    postgres: PostgresServer
    kafka: KafkaServer
    settings: RelaySettings

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """A session on the command database."""
        connection = await asyncpg.connect(**self.settings.command_database.connect_arguments)
        try:
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def private_servers(folder: Path) -> AsyncIterator[Private]:
    """Start both, migrated and with topics; ended with the block."""
    async with (
        PostgresServer(folder / "postgres") as postgres,
        KafkaServer(folder / "kafka", learn=False) as kafka,
    ):
        await postgres.create_database(DATABASE)
        server = postgres.address
        address = PostgresAddress(
            server=server.host,
            port=server.port,
            user=server.user,
            password=SecretStr(server.password),
            database=DATABASE,
        )
        await asyncio.to_thread(migrate, address)
        brokers = Kafka.model_construct(kafka_bootstrap_servers=kafka.bootstrap_servers)
        settings = settings_for(
            address, brokers, await make_topics(brokers), relay_transaction_timeout_ms=2000, relay_standby_poll_ms=50
        )
        yield Private(postgres, kafka, settings)
