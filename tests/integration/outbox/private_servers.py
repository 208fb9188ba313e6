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
        yield Private(postgres, kafka, await _settings(address, brokers))


async def _settings(address: PostgresAddress, kafka: Kafka) -> RelaySettings:
    topics = await make_topics(kafka)
    return RelaySettings.model_construct(
        **{
            **topics.model_dump(),
            **kafka.model_dump(),
            "command_postgres_server": address.server,
            "command_postgres_port": address.port,
            "command_postgres_user": address.user,
            "command_postgres_password": address.password,
            "command_postgres_db": address.database,
            "relay_transaction_timeout_ms": 2000,
            "relay_standby_poll_ms": 50,
        }
    )
