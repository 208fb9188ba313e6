"""An installation of Muster on servers of its own: any number of each process, of any version, each as who it is.

The servers, roles, logins and settings are those of `muster up`; which processes run is for whoever uses it.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self, TextIO

from rich.console import Console

from cli.access.scopes import SCOPES
from cli.stack.local_stack import LocalStack, muster
from cli.stack.screen import Screen
from cli.stack.settings import HTTP_PORTS, KAFKA_PRINCIPALS, Ports
from local_stack.issuer import open_issuer
from local_stack.ports import free_port, free_ports
from local_stack.processes.child import Child
from local_stack.processes.http_process import HttpProcess
from local_stack.processes.preloaded import Program
from local_stack.servers import ONE_OF_EACH, ServerSet
from tests.servers.port_rows import in_a_row

#: Each process: what `muster` is told, and the variable of its inner port, if it has one.
PROCESSES: Final = {
    "command-api": (("serve", "command"), "COMMAND_API_OPS_PORT"),
    "query-api": (("serve", "query"), "QUERY_API_OPS_PORT"),
    "event-api": (("serve", "events"), "EVENT_API_OPS_PORT"),
    "console": (("serve", "console"), "CONSOLE_OPS_PORT"),
    "relay": (("relay",), ""),
    "projectors": (("project",), ""),
}
#: The commands that know no more than they need.
_STEPS: Final = ("roles", "migrate", "topics", "rebuild")
#: What starts beside a dozen others, each anew, on a loaded machine.
READY_SECONDS: Final = 300.0
#: Longer than any run.
TOKEN_LIFETIME: Final = timedelta(days=2)
#: A command of an operator's that reads every user.
COMMAND_SECONDS: Final = 1200.0


class Installation(LocalStack):
    """Servers with databases, topics and rights; `running` starts and ends it, with all processes that it made."""

    def __init__(
        self,
        folder: Path,
        screen: TextIO,
        program: str | None = None,
        servers: frozenset[str] = frozenset({"postgres", "kafka"}),
        chosen: ServerSet = ONE_OF_EACH,
    ) -> None:
        """`program` is the `muster` that makes databases and topics, by default this checkout's."""
        super().__init__(
            folder,
            Ports(in_a_row(1 + chosen.standby), in_a_row(chosen.brokers), *free_ports(len(HTTP_PORTS))),
            Screen(Console(file=screen, width=200)),
            program=_program(program),
            started_at=datetime.now(UTC),
            only=servers,
            chosen=chosen,
        )
        self._made: list[Child] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Start the servers and make databases and topics; end everything with the block."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.plan()
        try:
            await self.start()
            yield self
        finally:
            hasten = asyncio.Event()
            hasten.set()
            await asyncio.gather(*(child.kill() for child in self._made))
            await self.stop(hasten)

    async def command(self, *arguments: str, program: str | None = None) -> None:
        """Run a command of `muster` to its end, as who it is for.

        Raises:
            ChildFailedError: it failed; the error has its last lines.
        """
        self._program = _program(program)
        await self._run(f"muster {' '.join(arguments)}", *arguments, within=COMMAND_SECONDS)

    async def topics(self, *, program: str | None = None) -> None:
        """Make the topics, and give everybody's logins their rights there."""
        names = (f"--{name}={name}" for name in KAFKA_PRINCIPALS.values())
        await self.command("topics", "--acls", *names, program=program)

    async def answer(self, *arguments: str, program: str | None = None) -> Any:
        """What an operator's command with --json says, whatever its exit code."""
        process = await asyncio.create_subprocess_exec(
            *_program(program).command, *arguments, "--json",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=dict(self._environment(arguments[0])), cwd=self.folder,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(), COMMAND_SECONDS)
        try:
            return json.loads(out)
        except json.JSONDecodeError:
            raise AssertionError(f"muster {' '.join(arguments)}: {err.decode()}") from None

    def process(self, name: str, *, program: str | None = None, port: int | None = None) -> HttpProcess:
        """One more of these processes, not started; it ends with the installation at the latest."""
        words, inner = PROCESSES[name]
        port = port or free_port()
        made = HttpProcess(
            name,
            [*_program(program).command, *words, "--port", str(port)],
            port=port,
            environment={**self._environment(name), **({inner: str(free_port())} if inner else {})},
            folder=self.folder,
            log=self.logs / f"{name}-{len(self._made)}.log",
        )
        made.ready_within = READY_SECONDS
        self._made.append(made)
        return made

    @property
    def bearer(self) -> dict[str, str]:
        """The header that lets an operator in, for as long as a run may take."""
        issuer = open_issuer(self.folder / "issuer")
        token = issuer.token(subject="drill", scopes=SCOPES, lifetime=TOKEN_LIFETIME, now=datetime.now(UTC))
        return {"Authorization": f"Bearer {token}"}

    def _settings_of(self, part: str) -> dict[str, str]:
        # Whatever else a person types knows all that there is, as in `stack.env`.
        return super()._settings_of(part) if part in {*PROCESSES, *_STEPS} else self.settings


def _program(path: str | None) -> Program:
    """A `muster` whose processes are started anew, each by itself: an import is of one version."""
    command = (path,) if path else muster().command
    return Program(command, "cli.main:main", ())
