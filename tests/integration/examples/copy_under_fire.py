"""A copy under fire: commands change users without a pause, while what brings the changes to the copy is killed.

The copies are the example that subscribers take (examples/local_copy.py): one from the first minute, another from
nothing in the middle of it. Each is verified in the middle, by the example too, and at the end compared row by row
with the command database. `make resume-copy` kills 200 times at 200 commands a second.
"""

import argparse
import asyncio
import json
import random
import shutil
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg
import httpx
from muster_events import Difference
from rich.console import Console

from chassis.lifecycle import wait_for_event
from chassis.settings import PostgresAddress, Topics
from local_stack.ports import free_ports
from tests.conftest import make_topics
from tests.databases import prepare_command, prepare_query
from tests.forks import NOWHERE, Fork
from tests.infrastructure import throwaway_folder
from tests.integration.examples.processes import be, rows
from tests.integration.muster_processes import answers_ready, environment
from tests.integration.muster_processes import main as muster
from tests.servers.private_servers import PrivateServers, make_database, private_servers
from tests.waiting import until

USERS: Final = 300
WRITERS: Final = 8
#: Commands that are carried out between two kills at least, so that each meets work. A long run has a second's:
#: else the machine does little but start what was killed, and commands wait.
BETWEEN_KILLS: Final = 40
#: The broker takes seconds to come back.
BROKER_EVERY: Final = 8
VERIFY_EVERY: Final = 4
#: Clients send open-loop, so what is not done is what the machine could not do beside starting all that was killed.
RATE_KEPT: Final = 0.5
#: Projectors whose group has lost a member, a broker that comes back, and a loaded machine.
WITHIN_SECONDS: Final = 120
HASH: Final = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g"

Start = Callable[[], Awaitable[Fork]]


@dataclass(slots=True)
class Outcome:
    """What was killed, and what both copies together lacked or had too much, or of another version."""

    kills: Counter[str] = field(default_factory=Counter)
    commands: int = 0
    seconds: float = 0.0
    #: What the example said each time that it verified itself.
    verifications: list[str] = field(default_factory=list)
    #: What it said in the middle, when one row of it was wrong, and what it had to end with.
    planted: str = ""
    difference: str = ""
    users: int = 0
    missing: int = 0
    extra: int = 0
    other_version: int = 0

    @property
    def holds(self) -> bool:
        """Whether each copy is what the command database has, and every verification found what there was to find."""
        same = all(said.endswith(" users, 0 differ") for said in self.verifications)
        named = self.planted.endswith(f" users, 1 differ\n{self.difference}")
        return same and named and not (self.missing or self.extra or self.other_version)

    @property
    def rate(self) -> float:
        """Commands a second that were carried out."""
        return self.commands / self.seconds


class Writers:
    """Clients of the command API, who go on whatever becomes of a command."""

    def __init__(self, url: str, rate: float, seed: int) -> None:
        self.done = 0
        #: Whom no command changes once they are there.
        self.untouched = ""
        self._url, self._rate, self._rng = url, rate, random.Random(seed)
        self._users: list[str] = []
        self._made = 0
        self._over = asyncio.Event()

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Import the first users, then change, add and erase some, until the block ends."""
        async with httpx.AsyncClient(base_url=self._url, timeout=5.0, trust_env=False) as client:
            await self._import(client, USERS)
            self.untouched = self._users.pop()
            async with asyncio.TaskGroup() as group:
                for _ in range(WRITERS):
                    group.create_task(self._write(client))
                try:
                    yield
                finally:
                    self._over.set()

    async def _write(self, client: httpx.AsyncClient) -> None:
        every = WRITERS / self._rate
        due = time.monotonic() + self._rng.random() * every
        while not await wait_for_event(self._over, max(due - time.monotonic(), 0)):
            try:
                await self._command(client)
                self.done += 1
            except (httpx.TransportError, httpx.HTTPStatusError) as error:
                if isinstance(error, httpx.HTTPStatusError) and error.response.status_code < 500:
                    raise
            due = max(due + every, time.monotonic())

    async def _command(self, client: httpx.AsyncClient) -> None:
        choice = self._rng.random()
        if choice < 0.04:
            await self._import(client, 1)
        elif choice < 0.06:
            erased = self._users.pop(self._rng.randrange(len(self._users)))
            answer = await client.delete(f"/users/{erased}")
            answer.raise_for_status()
        else:
            user, name = self._rng.choice(self._users), f"Name {self._rng.randrange(10**9)}"
            answer = await client.patch(f"/users/{user}/profile", json={"display_name": name})
            if answer.status_code != 404:  # erased by another meanwhile
                answer.raise_for_status()

    async def _import(self, client: httpx.AsyncClient, count: int) -> None:
        numbers = range(self._made, self._made + count)
        self._made += count
        lines = [{"email": f"user{n}@example.com", "username": f"user{n}", "password_hash": HASH} for n in numbers]
        answer = await client.post(
            "/users/import",
            content="\n".join(map(json.dumps, lines)),
            headers={"Content-Type": "application/x-ndjson"},
            timeout=60,
        )
        answer.raise_for_status()
        results = [json.loads(line) for line in answer.text.splitlines() if line]
        self._users += [result["id"] for result in results if "line" in result]


class UnderFire:
    """One run."""

    def __init__(
        self, servers: PrivateServers, told: dict[str, str], folder: Path, *, rate: float, seed: int, between: int
    ) -> None:
        self.outcome = Outcome()
        self._between = between
        self._servers, self._told, self._folder = servers, told, folder
        self._rng = random.Random(seed)
        self._processes: dict[str, Fork] = {}
        self._starts: dict[str, Start] = {}
        self._writers = Writers(f"http://127.0.0.1:{told['COMMAND_API_PORT']}", rate, seed)

    async def run(self, kills: int, address: PostgresAddress) -> None:
        """Write, kill, verify, compare."""
        try:
            await self._start_all()
            async with self._writers.writing():
                begun = time.monotonic()
                self._add_copy("copy 0")
                await self._start("copy 0")
                for number in range(1, kills + 1):
                    await self._some_commands()
                    await self._kill("broker" if number % BROKER_EVERY == 0 else self._rng.choice([*self._starts]))
                    if number == kills // 2:
                        await self._verify_planted("copy 0")
                        self._add_copy("copy 1")
                        await self._start("copy 1")
                    if number % VERIFY_EVERY == 0:
                        await self._verify(self._rng.choice(self._copies))
                self.outcome.seconds = time.monotonic() - begun
            self.outcome.commands = self._writers.done
            await self._compare(address)
        finally:
            for process in self._processes.values():
                await _end(process)

    @property
    def _copies(self) -> list[str]:
        return [name for name in self._starts if name.startswith("copy")]

    async def _start_all(self) -> None:
        """Muster; the command API is not among what is killed: it is no part of the way to the copy."""
        serving = {"command API": ("serve", "command"), "query API": ("serve", "query")}
        others = {"relay": ("relay",), "projectors": ("project", "users")}
        starts = {
            name: partial(Fork.start, muster, *arguments, environment=self._told, out=NOWHERE, err=NOWHERE)
            for name, arguments in (serving | others).items()
        }
        for name, start in starts.items():
            self._processes[name] = await start()
        self._starts |= {name: start for name, start in starts.items() if name != "command API"}

        async def ready() -> bool:
            ports = (
                self._told[f"{name}_PORT"] for name in ("COMMAND_API", "QUERY_API", "RELAY_HTTP", "PROJECTORS_HTTP")
            )
            return all([await answers_ready(int(port)) for port in ports])

        await until(ready, within=WITHIN_SECONDS, what="Muster to be ready")

    def _add_copy(self, name: str) -> None:
        self._starts[name] = partial(
            Fork.start, be, "examples.local_copy", (), environment=self._copy_told(name), out=NOWHERE, err=NOWHERE
        )

    def _copy_told(self, name: str) -> dict[str, str]:
        url = f"http://127.0.0.1:{self._told['QUERY_API_PORT']}"
        return {**self._told, "LOCAL_COPY_FILE": str(self._file(name)), "PUBLIC_QUERY_URL": url, "MUSTER_TOKEN": "none"}

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.sqlite"

    async def _start(self, name: str) -> None:
        self._processes[name] = await self._starts[name]()

    async def _some_commands(self) -> None:
        wanted = self._writers.done + self._between

        async def done() -> bool:
            return self._writers.done >= wanted

        await until(done, within=WITHIN_SECONDS, what="commands to be carried out")

    async def _kill(self, name: str) -> None:
        """Kill it and start it again."""
        self.outcome.kills[name.partition(" ")[0]] += 1
        if name == "broker":
            await self._servers.kafka.kill()
            await self._servers.kafka.start()
            return
        await _end(self._processes.pop(name))
        await self._start(name)

    async def _verify(self, name: str) -> None:
        """Have the example compare the copy with Muster while commands go on; then it follows again."""
        await _end(self._processes.pop(name))
        self.outcome.verifications.append(await self._verified(name))
        await self._start(name)

    async def _verify_planted(self, name: str) -> None:
        """The same of a copy that has a later version of somebody than there is."""
        user = self._writers.untouched

        async def there() -> bool:
            return user in self._found(name)

        await until(there, within=WITHIN_SECONDS, what="the copy to have whom it is to have wrong")
        await _end(self._processes.pop(name))
        self._change_version(name, user, +7)
        self.outcome.difference = str(Difference(UUID(user), self._found(name)[user], exists=True))
        self.outcome.planted = await self._verified(name)
        self._change_version(name, user, -7)
        await self._start(name)

    def _change_version(self, name: str, user: str, by: int) -> None:
        with closing(sqlite3.connect(self._file(name))) as database, database:
            database.execute("UPDATE users SET version = version + ? WHERE id = ?", (by, user))

    async def _verified(self, name: str) -> str:
        """What a process says that compares a copy which nobody follows now."""
        out, err = self._folder / "verified.txt", self._folder / "errors.txt"
        verifying = await Fork.start(
            be, "examples.local_copy", ("--verify",), environment=self._copy_told(name), out=out, err=err
        )
        try:
            async with asyncio.timeout(WITHIN_SECONDS):
                code = await verifying.wait()
        finally:
            await _end(verifying)
        assert code == 0, err.read_text()[-2000:]
        return out.read_text().strip()

    async def _compare(self, address: PostgresAddress) -> None:
        connection = await asyncpg.connect(**address.connect_arguments)
        try:
            wanted = {str(user): version for user, version in await connection.fetch("SELECT id, version FROM users")}
        finally:
            await connection.close()
        self.outcome.users = len(wanted)

        async def same() -> bool:
            return all(self._found(name) == wanted for name in self._copies)

        with suppress(AssertionError):  # counted below
            await until(same, within=WITHIN_SECONDS, what="both copies to be what the command database has")
        for name in self._copies:
            found = self._found(name)
            self.outcome.missing += len(wanted.keys() - found.keys())
            self.outcome.extra += len(found.keys() - wanted.keys())
            self.outcome.other_version += sum(found[user] != wanted[user] for user in wanted.keys() & found.keys())

    def _found(self, name: str) -> dict[str, int]:
        return dict(rows(self._file(name), "SELECT id, version FROM users"))


async def _end(process: Fork) -> None:
    process.kill()
    await process.wait()


async def copy_under_fire(kills: int, rate: float, seed: int, between: int = BETWEEN_KILLS) -> Outcome:
    """On servers of its own; `between` two kills so many commands are carried out."""
    folder = throwaway_folder()
    try:
        async with private_servers() as servers:
            topics = await make_topics(servers.brokers)
            command = await make_database(servers.postgres, prepare_command)
            query = await make_database(servers.postgres, prepare_query)
            told = _told(servers, topics, command, query)
            run = UnderFire(servers, told, folder, rate=rate, seed=seed, between=between)
            await run.run(kills, command)
            return run.outcome
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)


def _told(servers: PrivateServers, topics: Topics, command: PostgresAddress, query: PostgresAddress) -> dict[str, str]:
    processes = ("COMMAND_API", "COMMAND_API_OPS", "QUERY_API", "QUERY_API_OPS", "RELAY_HTTP", "PROJECTORS_HTTP")
    names = [f"{process}_PORT" for process in processes]
    ports = {name: str(port) for name, port in zip(names, free_ports(len(names)), strict=True)}
    return environment(servers.brokers, topics, command, query, **ports)


def main() -> int:
    """`make resume-copy`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rate", type=float, default=200.0, help="commands a second")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    second = round(options.rate)
    outcome = asyncio.run(copy_under_fire(options.kills, options.rate, options.seed, between=second))
    console = Console(highlight=False)
    console.print("kills: " + ", ".join(f"{name} {count}" for name, count in sorted(outcome.kills.items())))
    console.print(
        f"{outcome.commands:,} commands in {outcome.seconds:.0f} s, {outcome.rate:.0f}/s of {options.rate:.0f};"
        f" {len(outcome.verifications)} verifications in between"
    )
    console.print(f"with one row wrong: {outcome.planted}")
    console.print(
        f"{outcome.users:,} users, 2 copies: {outcome.missing} missing, {outcome.extra} extra,"
        f" {outcome.other_version} of another version"
    )
    for said in outcome.verifications:
        if not said.endswith(" 0 differ"):
            console.print(said)
    if outcome.rate < RATE_KEPT * options.rate:
        console.print(f"too few commands: {RATE_KEPT:.0%} of those a second are wanted at least")
        return 1
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
