"""PostgreSQL and Kafka of tests' own, to be killed, paused and started again, so that no other test notices.

They take seconds to make. Tests of one module may share a pair, one after the other: each gets both running, and makes
a database and topics of its own.
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from pydantic import SecretStr

from chassis.settings import Kafka, PostgresAddress
from local_stack.kafka.broker import KafkaServer
from local_stack.ports import LOCALHOST, free_port
from local_stack.postgres.server import PostgresServer
from tests.conftest import address_on
from tests.infrastructure import throwaway_folder

Migrate = Callable[[PostgresAddress], object]


@dataclass(frozen=True, slots=True)
class PrivateServers:
    """A pair of servers."""

    postgres: PostgresServer
    kafka: KafkaServer

    @property
    def brokers(self) -> Kafka:
        """How to reach the broker."""
        return Kafka.model_construct(kafka_bootstrap_servers=self.kafka.bootstrap_servers)

    async def start(self) -> None:
        """Start what a test that failed has left ended."""
        for server in (self.postgres, self.kafka):
            if not server.running:
                await server.start()


@asynccontextmanager
async def private_servers(*, durable: bool = False) -> AsyncIterator[PrivateServers]:
    """Both, until the block ends; `durable` as PostgresServer has it."""
    async with _folder() as folder:
        servers = PrivateServers(
            PostgresServer(folder / "postgres", durable=durable), KafkaServer(folder / "kafka", learn=False)
        )
        async with servers.postgres, servers.kafka:
            yield servers


@asynccontextmanager
async def private_postgres(
    migrate: Migrate | None = None, database: str | None = None, settings: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[PostgresServer, PostgresAddress]]:
    """A server until the block ends, with these settings, and a database on it."""
    async with _folder() as folder, PostgresServer(folder / "postgres", durable=False, settings=settings) as server:
        yield server, await make_database(server, migrate, database)


async def make_database(
    server: PostgresServer, migrate: Migrate | None = None, database: str | None = None
) -> PostgresAddress:
    """Make a database on a private server, under a name of its own if none is given."""
    database = database or f"muster_{uuid4().hex[:12]}"
    await server.create_database(database)
    address = address_on(server.address, database)
    if migrate is not None:
        await asyncio.to_thread(migrate, address)
    return address


def nowhere() -> PostgresAddress:
    """An address where nobody listens."""
    return PostgresAddress(server=LOCALHOST, port=free_port(), user="u", password=SecretStr("p"), database="d")


@asynccontextmanager
async def _folder() -> AsyncIterator[Path]:
    folder = throwaway_folder()
    try:
        yield folder
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)
