"""Muster under chaos: what `muster up` starts, with a proxy on every link to a server and a patient supervisor.

Each process is told the proxies' ports for the servers'; commands that run once, and this harness, go straight there.
Where libfaketime is on the machine, each process of ours has a clock that can be stepped.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self, TextIO

from rich.console import Console

from chassis.settings import Kafka
from cli.access.scopes import SCOPES
from cli.stack.local_stack import LocalStack, muster
from cli.stack.screen import Screen
from cli.stack.settings import HTTP_PORTS, Ports
from local_stack.issuer import open_issuer
from local_stack.ports import free_ports
from local_stack.processes.child import Child
from local_stack.processes.preloaded import Program
from local_stack.processes.supervisor import RestartPolicy, Supervisor
from tests.chaos import bugs
from tests.chaos.history import Record
from tests.chaos.proxy import Link
from tests.infrastructure import throwaway_folder

#: Which process goes to which server.
LINKS: Final = (
    ("command-api", "postgres"),
    ("query-api", "postgres"),
    ("relay", "postgres"),
    ("projectors", "postgres"),
    ("relay", "kafka"),
    ("projectors", "kafka"),
    ("event-api", "postgres"),
    ("event-api", "kafka"),
)
SERVICES: Final = ("command-api", "query-api", "relay", "projectors", "event-api")
SERVERS: Final = ("postgres", "kafka")
#: Deaths are what a run is made of, and it shall not wait long for the next start.
PATIENCE: Final = RestartPolicy(deaths=1_000_000, longest_back_off_seconds=2.0)
#: What starts beside a dozen others, each anew, on a loaded machine.
READY_SECONDS: Final = 300.0
#: Longer than any run; an issuer's tokens are good for at most as long as one says.
TOKEN_LIFETIME: Final = timedelta(days=2)


class ChaosStack(LocalStack):
    """One stack; `running` starts and ends it."""

    def __init__(self, folder: Path, screen: TextIO, planted: Collection[str] = (), *, workers: int = 1) -> None:
        """`planted` are bugs by their names, `workers` those of the command API."""
        postgres, kafka, *http = free_ports(2 + len(HTTP_PORTS))
        ports = Ports(postgres, kafka, *http)
        console = Console(file=screen, width=200)
        self._workers = workers
        self._library = libfaketime()
        self.links = {
            (name, server): Link(postgres if server == "postgres" else kafka, frames=server == "kafka")
            for name, server in LINKS
        }
        super().__init__(
            folder,
            ports,
            Screen(console),
            program=_program(planted),
            started_at=datetime.now(UTC),
            only=frozenset({*SERVERS, *SERVICES}),
        )
        self.supervisor = Supervisor(self._screen, PATIENCE)
        #: What was on topics that were lost, and the versions that the timeline had not read of it.
        self.lost: list[Record] = []
        self.unread: dict[str, list[int]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Start everything, and end it with the block."""
        self.folder.mkdir(parents=True, exist_ok=True)
        async with AsyncExitStack() as proxies:
            for link in self.links.values():
                await proxies.enter_async_context(link.listening())
            for name in SERVICES:
                self.step_clock(name, 0)
            self.plan()
            for child in self.children:
                child.ready_within = READY_SECONDS
            try:
                await self.start()
                self.ready(datetime.now(UTC))
                yield self
            finally:
                for link in self.links.values():
                    link.flow()
                hasten = asyncio.Event()
                hasten.set()
                await self.stop(hasten)

    def child(self, name: str) -> Child:
        """The server or process of that name."""
        return next(child for child in self.children if child.name == name)

    @property
    def has_clocks(self) -> bool:
        """Whether clocks can be stepped here."""
        return bool(self._library)

    def step_clock(self, name: str, seconds: int) -> None:
        """Set the clock of a process this far off the machine's."""
        self._clock(name).write_text(f"{seconds:+d}s\n")

    def bearer(self) -> dict[str, str]:
        """The header that lets an operator in, whatever the time."""
        issuer = open_issuer(self.folder / "issuer")
        yesterday = datetime.now(UTC) - TOKEN_LIFETIME / 2
        token = issuer.token(subject="chaos", scopes=SCOPES, lifetime=TOKEN_LIFETIME, now=yesterday)
        return {"Authorization": f"Bearer {token}"}

    @property
    def brokers(self) -> Kafka:
        """How to reach the broker as its superuser."""
        return Kafka.model_validate(self.servers.kafka.client_settings())

    def _clock(self, name: str) -> Path:
        return self.folder / f"clock-{name}"

    def _settings_of(self, part: str) -> dict[str, str]:
        told = super()._settings_of(part)
        ports = {server: link.port for (name, server), link in self.links.items() if name == part}
        if "postgres" in ports:
            told["POSTGRES_PORT"] = str(ports["postgres"])
        if "kafka" in ports:
            told["KAFKA_BOOTSTRAP_SERVERS"] = f"127.0.0.1:{ports['kafka']}"
        return told

    def _environment(self, part: str) -> Mapping[str, str]:
        workers = {"WORKERS": str(self._workers)} if part == "command-api" else {}
        return {**super()._environment(part), **workers, **(self._clocks(part) if part in SERVICES else {})}

    def _clocks(self, part: str) -> dict[str, str]:
        if not self._library:
            return {}
        return {
            "LD_PRELOAD": self._library,
            "FAKETIME_TIMESTAMP_FILE": str(self._clock(part)),
            "FAKETIME_CACHE_DURATION": "1",
            # Only what a person or NTP would set: durations are measured with the other clock.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


def libfaketime() -> str:
    """The library: the one that LIBFAKETIME names, or the machine's; empty where there is none."""
    found = sorted(Path("/usr").glob("lib*/**/libfaketimeMT.so.1"))
    return os.environ.get("LIBFAKETIME") or (str(found[0]) if found else "")


def _program(planted: Collection[str]) -> Program:
    """`muster`, whose processes are started anew, each by itself; where bugs are planted, with these.

    A fork would not load libfaketime; and in a run of tests the fork server is the tests' own (tests/forks.py).
    """
    program = muster()
    command = (sys.executable, bugs.__file__, ",".join(planted)) if planted else program.command
    return Program(command, program.entry, ())


@asynccontextmanager
async def throwaway_stack(planted: Collection[str] = (), *, workers: int = 1) -> AsyncIterator[ChaosStack]:
    """A running stack, with these bugs in its processes; nothing is left of it."""
    folder = throwaway_folder()
    try:
        with (folder / "screen.txt").open("w", encoding="utf-8") as screen:
            async with ChaosStack(folder / "stack", screen, planted, workers=workers).running() as stack:
                yield stack
    finally:
        shutil.rmtree(folder)
