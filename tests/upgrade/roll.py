"""An installation with two of each process, rolled to another version and back, as the pages tell people to.

Up: docs/explanation/versions.md, and docs/how-to/change-a-read-table.md where the other version reads another shape of
a read table. Back: the same in the reverse order. A process is replaced where it is: it ends, and one of the other
version starts on its port, while its twin serves. Projectors alone start beside those of the other version, since each
version feeds the read tables that its own query APIs read.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from chassis.postgres.database import session
from cli.stack.settings import QUERY_DATABASE
from local_stack.processes.http_process import HttpProcess
from read_model.catalogue import SCHEMAS
from tests.conftest import address_on
from tests.servers.installation import Installation

EACH: Final = 2
#: Commands last: who reads knows each event before it is written.
IN_PLACE: Final = ("query-api", "event-api", "relay", "console", "command-api")
#: Of which there is one, so that it is away while it is replaced.
ALONE: Final = frozenset({"console"})
_SHAPES: Final = "SELECT projection, shape FROM generations WHERE status = 'serving'"


@dataclass(frozen=True, slots=True)
class Version:
    """One version: its name on the page, its `muster`, and the processes that it has."""

    name: str
    program: str
    processes: frozenset[str]


class Fleet:
    """The processes that run, of either version."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._running: dict[str, list[HttpProcess]] = {}
        #: The projections that the newer version makes anew, since it reads another shape of them.
        self.rebuilt: list[str] = []

    def urls(self, name: str) -> list[str]:
        """The two addresses of an API, which stay; none where the version that runs has no such API."""
        return [process.url for process in self._running.get(name, [])]

    async def start(self, version: Version) -> None:
        """Start two of each, but for those of which there is one."""
        for name in ("projectors", *IN_PLACE):
            self._running[name] = self._some(name, version) if name in version.processes else []
        every = [process for pair in self._running.values() for process in pair]
        await asyncio.gather(*(process.start() for process in every))

    async def prepare(self, new: Version) -> None:
        """Let the newer version make its roles, tables, topics and rights, while the older serves."""
        for step in (("roles", "all"), ("migrate", "all")):
            await self._installation.command(*step, program=new.program)
        await self._installation.topics(program=new.program)

    async def up(self, old: Version, new: Version) -> None:
        """Replace all of the older version by the newer."""
        self.rebuilt = await self._of_other_shape()
        for name in self.rebuilt:
            await self._rebuild(new, name, "--pause-before-switch")
        async with self._projectors_beside(new):
            for name in self.rebuilt:
                await self._rebuild(new, name)
        await self._replace("query-api", old, new)
        await self._end_older_projectors()
        for name in IN_PLACE[1:]:
            await self._replace(name, old, new)

    async def back(self, new: Version, old: Version) -> None:
        """Replace all of the newer version by the older, on the newer one's tables."""
        for name in reversed(IN_PLACE[1:]):
            await self._replace(name, new, old)
        async with self._projectors_beside(old):
            pass
        await self._replace("query-api", new, old)
        for name in self.rebuilt:
            await self._rebuild(old, "rollback", name)
        await self._end_older_projectors()

    async def end(self) -> None:
        """End what runs, APIs first."""
        for name in (*reversed(IN_PLACE), "projectors"):
            await asyncio.gather(*(process.stop() for process in self._running[name]))

    async def _of_other_shape(self) -> list[str]:
        address = address_on(self._installation.servers.postgres.address, QUERY_DATABASE)
        async with session(address, application="upgrade") as connection:
            serving = {row["projection"]: row["shape"] for row in await connection.fetch(_SHAPES)}
        return [name for name, schema in SCHEMAS.items() if serving.get(name, schema.shape) != schema.shape]

    async def _rebuild(self, version: Version, *arguments: str) -> None:
        await self._installation.command("rebuild", *arguments, program=version.program)

    @asynccontextmanager
    async def _projectors_beside(self, version: Version) -> AsyncIterator[None]:
        """Start two more at the block's beginning; at its end they are ready, which what is done in it may need."""
        made = self._some("projectors", version)
        self._running["projectors"] += made
        async with asyncio.TaskGroup() as group:
            for process in made:
                group.create_task(process.start())
            yield

    async def _end_older_projectors(self) -> None:
        self._running["projectors"], ended = (
            self._running["projectors"][EACH:],
            self._running["projectors"][:EACH],
        )
        for process in ended:
            await process.stop()

    async def _replace(self, name: str, before: Version, after: Version) -> None:
        """Replace both, one after the other; a version may not have them."""
        pair = self._running[name]
        if name not in before.processes:
            made = self._some(name, after) if name in after.processes else []
            await asyncio.gather(*(process.start() for process in made))
            pair[:] = made
            return
        for place, process in enumerate(pair):
            await process.stop()
            if name in after.processes:
                pair[place] = self._installation.process(name, program=after.program, port=process.port)
                await pair[place].start()
        if name not in after.processes:
            pair.clear()

    def _some(self, name: str, version: Version) -> list[HttpProcess]:
        number = 1 if name in ALONE else EACH
        return [self._installation.process(name, program=version.program) for _ in range(number)]
