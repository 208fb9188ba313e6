"""A whole Muster as a newcomer starts it: `muster up` in a process of its own, on ports and a folder of the test's."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from cli.access.scopes import SCOPES
from local_stack.issuer import open_issuer
from local_stack.ports import free_ports
from tests.settings_classes import is_ours
from tests.waiting import until

MUSTER = str(Path(sys.executable).with_name("muster"))
#: A first start on a loaded machine, jars at hand.
READY_SECONDS = 120
STOP_SECONDS = 60
PORT_OPTIONS = (
    *("postgres", "kafka", "command", "query", "relay", "projectors", "console", "events"),
    *("console-ops", "command-ops", "query-ops", "events-ops"),
)


@dataclass(slots=True)
class Stack:
    """One `muster up`; `start` after `stop` finds the data again."""

    folder: Path
    ports: dict[str, int]
    process: subprocess.Popen[str] | None = None

    @classmethod
    def on(cls, folder: Path) -> "Stack":
        """A stack on a folder and on free ports; not started."""
        return cls(folder, dict(zip(PORT_OPTIONS, free_ports(len(PORT_OPTIONS)), strict=True)))

    @property
    def options(self) -> list[str]:
        """The command line's options."""
        ports = [word for name, port in self.ports.items() for word in (f"--{name}-port", str(port))]
        return ["--folder", str(self.folder), *ports]

    @property
    def command_url(self) -> str:
        """Where the command API is."""
        return f"http://127.0.0.1:{self.ports['command']}"

    @property
    def query_url(self) -> str:
        """Where the query API is."""
        return f"http://127.0.0.1:{self.ports['query']}"

    @property
    def screen(self) -> str:
        """What it has printed so far."""
        return (self.folder.parent / "screen.txt").read_text()

    async def start(self) -> None:
        """Start it and return when it says that it is ready."""
        self.process = self._spawn()
        await until(self._ready, within=READY_SECONDS, what="`muster up` to be ready")

    def _spawn(self) -> subprocess.Popen[str]:
        with (self.folder.parent / "screen.txt").open("w") as screen:
            return subprocess.Popen(
                [MUSTER, "up", *self.options],
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=subprocess.STDOUT,
                text=True,
                cwd=self.folder.parent,
                env=clean_environment(),
                start_new_session=True,
            )

    async def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.screen
        return "Muster is ready" in self.screen

    async def stop(self) -> int:
        """Press Ctrl-C and give the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        return await asyncio.to_thread(self.process.wait, STOP_SECONDS)

    async def kill(self, *others: int) -> None:
        """Kill the supervisor as a crash would, and with it those other processes."""
        assert self.process is not None
        self.process.kill()
        for pid in others:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(self.process.wait, STOP_SECONDS)

    @property
    def bearer(self) -> dict[str, str]:
        """The header that lets an operator in."""
        issuer = open_issuer(self.folder / "issuer")
        token = issuer.token(subject="tests", scopes=SCOPES, lifetime=timedelta(hours=1), now=datetime.now(UTC))
        return {"Authorization": f"Bearer {token}"}

    def pid(self, name: str) -> int:
        """The process of that name, as stack.json says now."""
        return int(self._entry(name)["pid"])

    def environment(self) -> dict[str, str]:
        """What makes any command of ours use this stack."""
        settings: dict[str, str] = self._document()["settings"]
        return clean_environment() | settings

    def _entry(self, name: str) -> dict[str, Any]:
        return next(entry for entry in self._document()["processes"] if entry["name"] == name)

    def _document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.folder / "stack.json").read_text())
        return document

    async def until_ready(self, name: str) -> None:
        """Wait until the process of that name answers that it is ready."""
        port = self.ports[{"command-api": "command", "query-api": "query", "event-api": "events"}.get(name, name)]
        async with httpx.AsyncClient() as http:

            async def ready() -> bool:
                try:
                    return (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200
                except httpx.HTTPError:
                    return False

            await until(ready, within=60, what=f"{name} to be ready")

    async def muster(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command against this stack; gives exit code, standard output, standard error."""
        return await run_muster(*arguments, environment=self.environment(), folder=self.folder.parent)


async def run_muster(*arguments: str, environment: dict[str, str], folder: Path) -> tuple[int, str, str]:
    """Run `muster` to its end."""
    process = await asyncio.create_subprocess_exec(
        MUSTER,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        cwd=folder,
    )
    out, err = await asyncio.wait_for(process.communicate(), READY_SECONDS)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def clean_environment() -> dict[str, str]:
    """Ours without any variable that a process of Muster reads: what a newcomer's shell has."""
    kept = {name: value for name, value in os.environ.items() if not is_ours(name)}
    cache = os.environ.get("MUSTER_CACHE")
    return kept | ({"MUSTER_CACHE": cache} if cache else {})
