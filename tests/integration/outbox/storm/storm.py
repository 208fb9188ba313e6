"""The storm: writers that do everything that breaks a relay, while relays, PostgreSQL and the broker are killed.

Writers change users in transactions that take their xid early, hold, and roll back. Two relays run, one leading and one
standing by; each kills itself at a random failpoint a random number of pages later and is started again. Now and then
PostgreSQL or the broker is killed too. In the end everything is published, and a read_committed consumer must hold
versions 1 to n of every user, each once and in order, n being what the database says.

Several installations, each with a database and topics of its own, can be in one storm, on the same servers: most of a
relay's life it waits. `make storm` (__main__.py) has a thousand kills; CI a few.
"""

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4

from chassis.postgres.database import NO_CONNECTION
from local_stack.processes.child import Child
from tests.forks import NOWHERE
from tests.integration.outbox.private_servers import Private
from tests.integration.outbox.relay_process import relay_process
from tests.integration.outbox.relaying import relaying
from tests.integration.outbox.traffic import Comparison, Connection, append, consume, until_empty
from tests.servers.private_servers import PrivateServers, private_servers

#: Of all installations together.
WRITERS: Final = 24
USERS: Final = 200
RELAYS: Final = 2
POINTS: Final = ("before_begin", "after_send", "before_commit", "before_delete", "after_delete")
#: One server is killed after this many kills of relays.
SERVER_EVERY: Final = 9
#: What is left when the storm is over goes out, and is read, within this many seconds.
DRAIN_SECONDS: Final = 300
#: A relay lives for a second or two; both servers start within twenty.
STALL_SECONDS: Final = 180
#: How often it is told how far the storm is.
TELL_SECONDS: Final = 10

Report = Callable[[str], object]

_TABLE: Final = "CREATE TABLE subject (id uuid PRIMARY KEY, version bigint NOT NULL)"
_CHANGE: Final = "UPDATE subject SET version = version + 1 WHERE id = $1 RETURNING version"


@dataclass(slots=True)
class Outcome:
    """What the storm did, and what a read_committed consumer found afterwards."""

    kills: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    events: int = 0
    lost: int = 0
    repeated: int = 0
    inverted: int = 0
    aborted: int = 0

    @property
    def holds(self) -> bool:
        """Whether every promise was kept."""
        return (self.lost, self.repeated, self.inverted) == (0, 0, 0)


class Storm:
    """One storm over private servers: who is killed when, and when it is over."""

    def __init__(self, servers: PrivateServers, kills: int, seed: int) -> None:
        """`kills` of relays, then it calms down; the same seed makes the same choices."""
        self.outcome = Outcome()
        self.rng = random.Random(seed)
        self.over = asyncio.Event()
        self.kills = kills
        self.done = 0
        self._servers = servers
        self._server_dies = asyncio.Lock()

    async def run(self, installations: int, report: Report) -> Outcome:
        """Blow, calm down, and look."""
        began = time.monotonic()
        all_of_them = [Installation(await Private.on(self._servers), self, installations) for _ in range(installations)]
        for one in all_of_them:
            await one.prepare()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell(report, began))
            for one in all_of_them:
                one.blow(group)
        report("storm: calm; what is left is published and read")
        await asyncio.gather(*(one.calm_down() for one in all_of_them))
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    async def count(self, what: str) -> None:
        """A relay was killed; now and then a server is killed with it."""
        self.outcome.kills[what] += 1
        self.done += 1
        if self.done >= self.kills:
            self.over.set()
        elif self.done % SERVER_EVERY == 0:
            await self._kill_a_server()

    async def _kill_a_server(self) -> None:
        async with self._server_dies:
            both: tuple[Child, ...] = (self._servers.postgres, self._servers.kafka)
            server = min(both, key=lambda server: self.outcome.kills[server.name])
            self.outcome.kills[server.name] += 1
            await server.kill()
            await server.start()

    async def _tell(self, report: Report, began: float) -> None:
        while not self.over.is_set():
            report(f"storm: {self.done:,} of {self.kills:,} kills in {time.monotonic() - began:,.0f} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self.over.wait(), TELL_SECONDS)


class Installation:
    """A database and topics of its own in a storm, its writers and its relays."""

    def __init__(self, private: Private, storm: Storm, installations: int) -> None:
        """One of so many."""
        self._private = private
        self._storm = storm
        self._writers = WRITERS // installations
        self._users = [uuid4() for _ in range(USERS // installations)]

    async def prepare(self) -> None:
        """Make the users."""
        async with self._private.session() as session:
            await session.execute(_TABLE)
            await session.executemany("INSERT INTO subject VALUES ($1, 0)", [(user,) for user in self._users])

    def blow(self, group: asyncio.TaskGroup) -> None:
        """Write and be killed until the storm is over."""
        for _ in range(self._writers):
            group.create_task(self._write())
        for _ in range(RELAYS):
            group.create_task(self._relay())

    async def calm_down(self) -> None:
        """Publish what is left, and count what a consumer finds."""
        async with relaying(self._private.settings), self._private.session() as session:
            await until_empty(session, within=DRAIN_SECONDS)
            wanted = {str(row["id"]): row["version"] for row in await session.fetch("SELECT * FROM subject")}
        seen = (await consume(self._private.settings, within=DRAIN_SECONDS)).versions()
        found, outcome = Comparison.of(seen, wanted), self._storm.outcome
        outcome.lost += found.lost
        outcome.repeated += found.repeated
        outcome.inverted += found.inverted
        outcome.events += sum(wanted.values())
        raw = await consume(self._private.settings, "read_uncommitted", within=DRAIN_SECONDS)
        outcome.aborted += len(raw.records) - sum(map(len, seen.values()))

    async def _write(self) -> None:
        over = self._storm.over
        while not over.is_set():
            with suppress(*NO_CONNECTION):
                async with self._private.session() as session:
                    while not over.is_set():
                        await self._transaction(session, self._storm.rng.choice(self._users))

    async def _transaction(self, session: Connection, user: UUID) -> None:
        rng = self._storm.rng
        transaction = session.transaction()
        await transaction.start()
        if rng.random() < 0.3:
            await session.execute("SELECT pg_current_xact_id()")
        version = await session.fetchval(_CHANGE, user)
        await append(session, user, version, b'{"x":"%b"}' % (b"x" * rng.choice((10, 350, 350, 5000))))
        # The transaction holds its row and its id for a while, so that others commit before it.
        await session.execute("SELECT pg_sleep($1)", rng.choice((0.02, 0.05, 0.1, 0.2)))
        await (transaction.rollback() if rng.random() < 0.2 else transaction.commit())

    async def _relay(self) -> None:
        rng = self._storm.rng
        while not self._storm.over.is_set():
            point, count = rng.choice(POINTS), rng.randint(1, 3)
            code = await self._until_killed(point, count)
            assert code in {None, -signal.SIGKILL}, f"a relay ended by itself, with exit code {code}"
            await self._storm.count("anywhere" if code is None else point)

    async def _until_killed(self, point: str, count: int) -> int | None:
        """Be a relay until it has killed itself, or the storm is over; gives how it ended by itself."""
        async with relay_process(self._private.settings, point, count, log=NOWHERE) as process:
            waits = [asyncio.create_task(wait) for wait in (process.wait(), self._storm.over.wait())]
            try:
                done, _ = await asyncio.wait(waits, timeout=STALL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                assert done, f"a relay has not got to {point} for {STALL_SECONDS} s"
                return process.returncode
            finally:
                for wait in waits:
                    wait.cancel()


async def storm(kills: int, seed: int, *, installations: int = 1, report: Report = lambda _: None) -> Outcome:
    """A storm on servers of its own."""
    async with private_servers(durable=True) as servers:
        return await Storm(servers, kills, seed).run(installations, report)
