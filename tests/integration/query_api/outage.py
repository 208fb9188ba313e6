"""Servers that fail on purpose: a private PostgreSQL that a test may pause, kill and start again."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr

from chassis.settings import PostgresAddress
from local_stack.ports import LOCALHOST, free_port
from local_stack.postgres import PostgresServer
from projectors.migrate import migrate
from tests.infrastructure import throwaway_folder

DATABASE = "muster_query"


@asynccontextmanager
async def private_postgres() -> AsyncIterator[tuple[PostgresServer, PostgresAddress]]:
    """A server of this test's own, with a migrated query database."""
    folder = throwaway_folder()
    try:
        async with PostgresServer(folder / "postgres", durable=False) as server:
            await server.create_database(DATABASE)
            address = PostgresAddress(
                server=server.address.host,
                port=server.address.port,
                user=server.address.user,
                password=SecretStr(server.address.password),
                database=DATABASE,
            )
            await asyncio.to_thread(migrate, address)
            yield server, address
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)


def nowhere() -> PostgresAddress:
    """An address where nobody listens."""
    return PostgresAddress(server=LOCALHOST, port=free_port(), user="u", password=SecretStr("p"), database="d")
