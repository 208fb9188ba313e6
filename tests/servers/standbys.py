"""A PostgreSQL server of a test's own with a hot standby, and addresses that name both."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from chassis.settings import PostgresAddress
from local_stack.postgres.server import PostgresServer
from local_stack.postgres.standby import PostgresStandby
from tests.servers.private_servers import make_database
from tests.waiting import until


@dataclass(frozen=True, slots=True)
class Pair:
    """Both servers, and a database that both have."""

    primary: PostgresServer
    standby: PostgresStandby
    database: PostgresAddress

    @property
    def address(self) -> PostgresAddress:
        """The database on either, as a setting would name them."""
        servers = ",".join(f"127.0.0.1:{server.port}" for server in (self.primary, self.standby))
        return replace(self.database, server=servers)

    async def fail_over(self) -> None:
        """End the primary as a power cut does, and have the standby take its place."""
        await self.primary.kill()
        await self.standby.promote()


@asynccontextmanager
async def pair(
    folder: Path, migrate: Callable[[PostgresAddress], object], *, synchronous: bool = False
) -> AsyncIterator[Pair]:
    """Run both until the block ends."""
    async with PostgresServer(folder / "primary", durable=False) as primary:
        database = await make_database(primary, migrate)
        async with PostgresStandby(folder / "standby", primary, durable=False) as standby:
            if synchronous:
                await standby.follow()
                await until(standby.is_followed, within=10, what="commits to wait for the standby")
            yield Pair(primary, standby, database)


async def caught_up(servers: Pair) -> None:
    """Wait until the standby shows all that its primary has."""
    wanted = await servers.primary.execute("SELECT pg_current_wal_lsn()::text")

    async def is_there() -> object:
        return await servers.standby.execute(f"SELECT pg_last_wal_replay_lsn() >= '{wanted}'::pg_lsn")

    await until(is_there, within=10, what="the standby to catch up")
