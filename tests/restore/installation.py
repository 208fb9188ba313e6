"""An installation with a PostgreSQL server for each side, the command side's backed up, to be lost and restored."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO
from uuid import uuid4

import httpx

from benchmarks.population import fill_command
from chassis.postgres.database import Database, session
from chassis.settings import PostgresAddress
from cli.stack.settings import COMMAND_DATABASE, QUERY_DATABASE
from local_stack.postgres.data import remove_cluster
from local_stack.processes.http_process import HttpProcess
from projectors.operations.lag import measure
from projectors.settings import OperatorProjectorSettings
from tests.conftest import address_on
from tests.restore.backup import RestoredServer, Server, Store
from tests.servers.installation import Installation
from tests.waiting import until

#: Room for a million users, so that a fill is not held up by checkpoints.
ROOM: Final = {"shared_buffers": "512MB", "max_wal_size": "4GB"}
#: In which all that was committed is published and read: a million users are some minutes.
READ_SECONDS: Final = 1800.0
LOOK_SECONDS: Final = 0.2
ANSWER_SECONDS: Final = 30.0


class TwoServers(Installation):
    """Kafka, and a server for each side; their processes are started and ended by name."""

    def __init__(self, folder: Path, screen: TextIO) -> None:
        super().__init__(folder, screen, servers=frozenset({"kafka"}))
        self.store = Store(folder.parent / "store")
        self._processes: dict[str, HttpProcess] = {}
        self.command_server: Server
        self.query_server: Server

    def plan(self) -> None:
        """Make settings that name both servers."""
        super().plan()
        password = self.settings["POSTGRES_PASSWORD"]
        self.command_server = Server(self.folder / "command", password, settings=ROOM | self.store.archiving)
        self.query_server = Server(self.folder / "query", password, settings=ROOM)
        for prefix, server in (("COMMAND", self.command_server), ("QUERY", self.query_server)):
            self.settings[f"{prefix}_POSTGRES_SERVER"] = server.address.host
            self.settings[f"{prefix}_POSTGRES_PORT"] = str(server.port)

    @asynccontextmanager
    async def whole(self, users: int) -> AsyncIterator[None]:
        """Run all of it with so many users on both sides."""
        async with self.running():
            try:
                await asyncio.gather(self.command_server.start(), self.query_server.start())
                await self.store.prepare(self.command_server)
                await self.command("roles", "all")
                await self.command("migrate", "all")
                async with session(self.command_side, application="drill") as connection:
                    await fill_command(connection, users)
                await self.begin("command-api", "relay", "projectors")
                await self.command("events", "refill")
                await self.all_is_read()
                yield
            finally:
                await asyncio.gather(*(process.kill() for process in self._processes.values()))
                await asyncio.gather(self.command_server.stop(), self.query_server.stop())

    @property
    def command_side(self) -> PostgresAddress:
        """The command database, as a superuser's."""
        return address_on(self.command_server.address, COMMAND_DATABASE)

    @property
    def query_side(self) -> PostgresAddress:
        """The query database, as a superuser's."""
        return address_on(self.query_server.address, QUERY_DATABASE)

    async def begin(self, *names: str) -> None:
        """Start these processes."""
        for name in names:
            process = self._processes[name] = self.process(name)
            await process.start()

    async def end(self, *names: str) -> None:
        """End these processes, in their order."""
        for name in names:
            await self._processes.pop(name).stop()

    async def lose(self, server: Server) -> None:
        """Lose a server with all that it has; nothing but its archive is left."""
        await server.kill()
        await asyncio.to_thread(remove_cluster, server.data_folder)

    async def restore(self, backup: Path, moment: datetime) -> None:
        """Bring the command side's server back, as it was at that time."""
        folder = self.folder / f"command-{uuid4().hex[:6]}"
        self.command_server = RestoredServer(self.command_server, folder, self.store, backup, moment, ROOM)
        await self.command_server.start()

    async def new_query_server(self) -> None:
        """Bring an empty server in the place of the query side's."""
        lost = self.query_server
        folder = self.folder / f"query-{uuid4().hex[:6]}"
        self.query_server = Server(folder, lost.address.password, lost.port, settings=ROOM)
        await self.query_server.start()

    async def all_is_read(self) -> None:
        """Wait until all that was committed is published, and every serving read table has it."""
        async with session(self.command_side, application="drill") as connection:

            async def is_published() -> bool:
                return not await connection.fetchval("SELECT EXISTS (SELECT FROM outbox)")

            await until(is_published, within=READ_SECONDS, what="everything to be published")

        values: dict[str, Any] = dict(self.settings)
        settings = OperatorProjectorSettings(_env_file=None, **values)
        async with Database.open(settings.query_database, application="drill") as database:

            async def is_read() -> bool:
                await asyncio.sleep(LOOK_SECONDS)  # a look takes some of the machine from those who read
                found = [one for one in await measure(settings, database) if one.status == "serving"]
                return all(one.records == 0 and one.seconds is not None for one in found)

            await until(is_read, within=READ_SECONDS, what="everything to be read")

    @asynccontextmanager
    async def api(self, name: str = "command-api") -> AsyncIterator[httpx.AsyncClient]:
        """A client of one of the APIs that run."""
        url = self._processes[name].url
        async with httpx.AsyncClient(
            base_url=url, headers=self.bearer, timeout=ANSWER_SECONDS, trust_env=False
        ) as client:
            yield client
