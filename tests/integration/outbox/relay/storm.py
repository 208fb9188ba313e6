"""The storm: writers that do everything that breaks a relay, while relays, PostgreSQL and the broker are killed.

24 writers change users in transactions that take their xid early, hold, and roll back. Two relays run, one leading and
one standing by; each kills itself at a random failpoint a random number of pages later and is started again. Now and
then PostgreSQL or the broker is killed too. In the end everything is published, and a read_committed consumer must hold
versions 1 to n of every user, each once and in order, n being what the database says.

`make storm` runs it with 1,000 kills, has the ends of 1,000 transactions come late (publishing/late_answers.py), takes
the broker away for five minutes (outage.py), and prints what became of each; CI runs a few of each.
"""

import argparse
import asyncio
import random
import sys
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4

from rich.console import Console
from rich.table import Table

from chassis.postgres.database import NO_CONNECTION
from tests.integration.outbox.private_servers import Private
from tests.integration.outbox.publishing import late_answers
from tests.integration.outbox.relay import outage
from tests.integration.outbox.relay_process import relay_process
from tests.integration.outbox.relaying import relaying
from tests.integration.outbox.traffic import Comparison, Connection, append, consume, until_empty
from tests.private_servers import private_servers

WRITERS: Final = 24
USERS: Final = 200
RELAYS: Final = 2
POINTS: Final = ("before_begin", "after_send", "before_commit", "before_delete", "after_delete")
#: One server is killed after this many kills of relays.
SERVER_EVERY: Final = 9
#: What is left when the storm is over goes out within this many seconds.
DRAIN_SECONDS: Final = 120
#: How long the relay waits for the end of a transaction that comes late; a small one ends in hundredths.
LATE_SECONDS: Final = 0.5


_TABLE: Final = "CREATE TABLE subject (id uuid PRIMARY KEY, version bigint NOT NULL)"
_CHANGE: Final = "UPDATE subject SET version = version + 1 WHERE id = $1 RETURNING version"


@dataclass(slots=True)
class Outcome:
    """What the storm did, and what a read_committed consumer found afterwards."""

    kills: Counter[str] = field(default_factory=Counter)
    events: int = 0
    lost: int = 0
    repeated: int = 0
    inverted: int = 0
    aborted: int = 0


class Storm:
    """One storm over private servers."""

    def __init__(self, private: Private, kills: int, seed: int) -> None:
        """`kills` of relays, then it calms down; the same seed makes the same choices."""
        self.private = private
        self.outcome = Outcome()
        self._left = kills
        self._rng = random.Random(seed)
        self._over = asyncio.Event()
        self._users = [uuid4() for _ in range(USERS)]

    async def run(self) -> Outcome:
        """Blow, calm down, and look."""
        async with self.private.session() as session:
            await session.execute(_TABLE)
            await session.executemany("INSERT INTO subject VALUES ($1, 0)", [(user,) for user in self._users])
        async with asyncio.TaskGroup() as group:
            for _ in range(WRITERS):
                group.create_task(self._write())
            for _ in range(RELAYS):
                group.create_task(self._relay())
        async with relaying(self.private.settings), self.private.session() as session:
            await until_empty(session, within=DRAIN_SECONDS)
            wanted = {str(row["id"]): row["version"] for row in await session.fetch("SELECT * FROM subject")}
        await self._look(wanted)
        return self.outcome

    async def _look(self, wanted: dict[str, int]) -> None:
        seen = (await consume(self.private.settings)).versions()
        outcome = self.outcome
        found = Comparison.of(seen, wanted)
        outcome.lost, outcome.repeated, outcome.inverted = found.lost, found.repeated, found.inverted
        outcome.events = sum(wanted.values())
        raw = await consume(self.private.settings, "read_uncommitted")
        outcome.aborted = len(raw.records) - sum(map(len, seen.values()))

    async def _write(self) -> None:
        while not self._over.is_set():
            with suppress(*NO_CONNECTION):
                async with self.private.session() as session:
                    while not self._over.is_set():
                        await self._transaction(session, self._rng.choice(self._users))

    async def _transaction(self, session: Connection, user: UUID) -> None:
        transaction = session.transaction()
        await transaction.start()
        if self._rng.random() < 0.3:
            await session.execute("SELECT pg_current_xact_id()")
        version = await session.fetchval(_CHANGE, user)
        await append(session, user, version, b'{"x":"%b"}' % (b"x" * self._rng.choice((10, 350, 350, 5000))))
        # The transaction holds its row and its id for a while, so that others commit before it.
        await session.execute("SELECT pg_sleep($1)", self._rng.choice((0.02, 0.05, 0.1, 0.2)))
        await (transaction.rollback() if self._rng.random() < 0.2 else transaction.commit())

    async def _relay(self) -> None:
        while not self._over.is_set():
            point, count = self._rng.choice(POINTS), self._rng.randint(1, 3)
            by_itself = await self._until_killed(point, count)
            self.outcome.kills[point if by_itself else "anywhere"] += 1
            self._left -= 1
            if self._left <= 0:
                self._over.set()
            elif self._left % SERVER_EVERY == 0:
                await self._kill_a_server()

    async def _until_killed(self, point: str, count: int) -> bool:
        """Be a relay until it has killed itself, or the storm is over; says whether it did it itself."""
        async with relay_process(self.private.settings, point, count) as process:
            waits = [asyncio.create_task(wait) for wait in (process.wait(), self._over.wait())]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                return process.returncode is not None
            finally:
                for wait in waits:
                    wait.cancel()

    async def _kill_a_server(self) -> None:
        servers = (self.private.postgres, self.private.kafka)
        server = min(servers, key=lambda server: self.outcome.kills[server.name])
        self.outcome.kills[server.name] += 1
        await server.kill()
        await server.start()


async def storm(kills: int, seed: int) -> Outcome:
    """A storm on servers of its own."""
    async with private_servers(durable=True) as servers:
        return await Storm(await Private.on(servers), kills, seed).run()


async def late_ends(rounds: int) -> late_answers.Outcome:
    """Late ends of transactions on servers of their own."""
    async with private_servers(durable=True) as servers:
        private = await Private.on(servers)
        async with private.session() as session:
            return await late_answers.late_ends(private.settings, session, rounds, LATE_SECONDS)


async def long_outage(seconds: float) -> outage.Outcome:
    """A broker's outage on servers of its own."""
    async with private_servers(durable=True) as servers:
        return await outage.Outage(await Private.on(servers), seconds).run()


def show(outcome: Outcome, console: Console) -> None:
    """Print the table."""
    table = Table(title="Relay under storm, as a read_committed consumer sees it")
    for heading in ("events", "lost", "repeated", "inverted", "aborted records"):
        table.add_column(heading, justify="right")
    figures = (outcome.events, outcome.lost, outcome.repeated, outcome.inverted, outcome.aborted)
    table.add_row(*(f"{figure:,}" for figure in figures))
    console.print(table)
    console.print("kills: " + ", ".join(f"{name} {count}" for name, count in sorted(outcome.kills.items())))


def main() -> int:
    """`make storm`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--late", type=int, default=1000, help="transactions whose end comes late")
    parser.add_argument("--outage", type=float, default=300, help="seconds that the broker is away; 0 for none")
    options = parser.parse_args()
    console = Console()
    outcome = asyncio.run(storm(options.kills, options.seed)) if options.kills else Outcome()
    show(outcome, console)
    kept = not (outcome.lost or outcome.repeated or outcome.inverted)
    if options.late:
        late = asyncio.run(late_ends(options.late))
        late_answers.show(late, console)
        kept = kept and not (late.lost or late.repeated or late.inverted)
    if options.outage:
        away = asyncio.run(long_outage(options.outage))
        outage.show(away, options.outage, console)
        kept = kept and outage.holds(away)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
