"""Resuming: clients follow two event APIs while clients, event APIs, the relay and the broker are killed.

Each client is the example that subscribers copy (examples/events_over_http.py). In the end each must have every event
once, and each user's in order. `make resume` kills 200 times during 5,000 events.
"""

import argparse
import asyncio
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID, uuid4

from rich.console import Console

from local_stack.ports import free_ports
from tests.forks import NOWHERE, Fork
from tests.infrastructure import throwaway_folder
from tests.integration.event_api.conftest import variables
from tests.integration.examples.deliveries import deliveries, note_deliveries
from tests.integration.examples.processes import be, rows
from tests.integration.muster_processes import main as muster
from tests.integration.outbox.private_servers import Private
from tests.integration.outbox.relay_process import relay
from tests.integration.outbox.traffic import Comparison, append
from tests.issuing import token
from tests.servers.private_servers import private_servers
from tests.waiting import until

APIS: Final = 2
CLIENTS: Final = 4
USERS: Final = 50
#: The broker takes seconds to come back.
BROKER_EVERY: Final = 15
#: What is on its way when the last was killed arrives within this.
DRAIN_SECONDS: Final = 120
VALUE: Final = b'{"user":{"id":"%b","version":%d},"previous":{}}'

Start = Callable[[], Awaitable[Fork]]


@dataclass(slots=True)
class Outcome:
    """What was killed, and what all clients together then missed, had twice, or had out of order."""

    kills: Counter[str] = field(default_factory=Counter)
    events: int = 0
    lost: int = 0
    repeated: int = 0
    inverted: int = 0

    @property
    def holds(self) -> bool:
        """Whether each client has each event once, and each user's in order."""
        return not (self.lost or self.repeated or self.inverted)


class Resume:
    """One run."""

    def __init__(self, private: Private, folder: Path, seed: int) -> None:
        self.outcome = Outcome()
        self._private = private
        self._files = [folder / f"client-{number}.sqlite" for number in range(CLIENTS)]
        for file in self._files:
            note_deliveries(file)
        self._rng = random.Random(seed)
        self._versions: dict[UUID, int] = dict.fromkeys((uuid4() for _ in range(USERS)), 0)
        self._processes: dict[str, Fork] = {}
        self._starts = self._all_starts()

    async def run(self, kills: int, events: int) -> None:
        """Write, kill, wait for the rest, compare."""
        async with self._running():
            for number in range(1, kills + 1):
                await self._append(events * number // kills - self.outcome.events)
                await until(self._arriving, within=DRAIN_SECONDS, what="an event at any client")
                await self._kill("broker" if number % BROKER_EVERY == 0 else self._rng.choice([*self._starts]))
            await until(self._arrived, within=DRAIN_SECONDS, what="every event at every client")
        wanted = {str(user): version for user, version in self._versions.items()}
        for file in self._files:
            seen: dict[str, list[int]] = {}
            for _, user, version in deliveries(file):
                seen.setdefault(user, []).append(version)
            found = Comparison.of(seen, wanted)
            self.outcome.lost += found.lost
            self.outcome.repeated += found.repeated
            self.outcome.inverted += found.inverted

    def _counts(self) -> list[int]:
        return [count for file in self._files for (count,) in rows(file, "SELECT count(*) FROM events")]

    async def _arriving(self) -> bool:
        """Nearly all have come to somebody, so that the next kill meets work."""
        return max(self._counts(), default=0) >= self.outcome.events - USERS

    async def _arrived(self) -> bool:
        counts = self._counts()
        return len(counts) == CLIENTS and min(counts) >= self.outcome.events

    async def _append(self, count: int) -> None:
        async with self._private.session() as session:
            for user in self._rng.choices([*self._versions], k=count):
                self._versions[user] += 1
                version = self._versions[user]
                await append(session, user, version, VALUE % (str(user).encode(), version))
        self.outcome.events += count

    async def _kill(self, name: str) -> None:
        """Kill it and start it again."""
        self.outcome.kills[name] += 1
        if name == "broker":
            await self._private.kafka.kill()
            await self._private.kafka.start()
            return
        await _end(self._processes.pop(name))
        self._processes[name] = await self._starts[name]()

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        try:
            for name, start in self._starts.items():
                self._processes[name] = await start()
            yield
        finally:
            for process in self._processes.values():
                await _end(process)

    def _all_starts(self) -> dict[str, Start]:
        ports = free_ports(2 * APIS)
        starts: dict[str, Start] = {
            "relay": partial(Fork.start, relay, self._private.settings, "never", 1, out=NOWHERE, err=NOWHERE)
        }
        for number in range(APIS):
            told = self._api_variables(ports[number], ports[APIS + number])
            starts[f"event API {number}"] = partial(
                Fork.start, muster, "serve", "events", environment=told, err=NOWHERE
            )
        for number, file in enumerate(self._files):
            told = {
                "EVENT_API_URL": f"http://127.0.0.1:{ports[number % APIS]}",
                "EVENTS_FILE": str(file),
                "MUSTER_TOKEN": token(f"client-{number}", ["events:read"]),
            }
            example = "examples.events_over_http"
            starts[f"client {number}"] = partial(
                Fork.start, be, example, (), environment=_ours() | told, out=NOWHERE, err=NOWHERE
            )
        return starts

    def _api_variables(self, port: int, ops_port: int) -> dict[str, str]:
        return {
            **_ours(),
            **variables(self._private.settings, self._private.settings),
            "EVENT_API_PORT": str(port),
            "EVENT_API_OPS_PORT": str(ops_port),
        }


def _ours() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("KAFKA", "AUTH", "EVENT", "QUERY"))
    }


async def _end(process: Fork) -> None:
    process.kill()
    await process.wait()


async def resume(kills: int, events: int, seed: int) -> Outcome:
    """On servers of its own."""
    folder = throwaway_folder()
    try:
        async with private_servers(durable=True) as servers:
            run = Resume(await Private.on(servers), folder, seed)
            await run.run(kills, events)
            return run.outcome
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)


def main() -> int:
    """`make resume`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    outcome = asyncio.run(resume(options.kills, options.events, options.seed))
    console = Console(highlight=False)
    console.print("kills: " + ", ".join(f"{name} {count}" for name, count in sorted(outcome.kills.items())))
    console.print(
        f"{outcome.events:,} events, {CLIENTS} clients:"
        f" {outcome.lost} lost, {outcome.repeated} repeated, {outcome.inverted} inverted"
    )
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
