"""The local stack: its processes, the order in which they start and end, and what stack.json says of them.

    jars → Kafka ─────────────────────→ topics ─┬→ read tables of an older version → relay, projectors, event API
    PostgreSQL → databases → roles → migrations ┴→ command API, query API, console
    imports, which all of ours share

Three lanes run side by side. Where nothing is to be migrated, migrations are one question to each database. A standby
is copied before there are databases. Processes end in the order in which work flows: APIs drain, the relay publishes,
projectors apply, then Kafka and PostgreSQL.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from chassis.lifecycle import alongside
from cli.stack.discovery import issuer_folder
from cli.stack.screen import Screen
from cli.stack.settings import (
    ALL_PARTS,
    COMMAND_DATABASE,
    CONSOLE,
    KAFKA_PRINCIPALS,
    QUERY_DATABASE,
    SERVICES,
    Ports,
    kafka_settings_of,
    process_environment,
    server_settings,
    settings_of,
    stack_settings,
    trusts_own_issuer,
)
from local_stack import stack_file
from local_stack.errors import ChildFailedError
from local_stack.folder import MARK_VARIABLE
from local_stack.kafka.jars import fetch_jars, jar_folder, missing_jars, pinned_jars
from local_stack.logs import last_lines
from local_stack.processes.child import Child, describe_exit, run_once, until_ended
from local_stack.processes.http_process import HttpProcess
from local_stack.processes.preloaded import Preloaded, Program
from local_stack.processes.supervisor import Supervisor
from local_stack.processes.watchdog import Watchdog
from local_stack.servers import ONE_OF_EACH, Servers, ServerSet
from local_stack.stack_file import ProcessEntry, Stack

# Migrations and topics of an empty stack take 2 s; a large local database may take minutes to migrate.
ONE_SHOT_SECONDS = 600.0
# A read table of a newer shape is made of the whole topic, at some ten thousand records a second.
REBUILD_SECONDS = 86_400.0
# It writes one row.
LINK_SECONDS = 20.0
#: The log of `muster console link`, whose last line is the link.
CONSOLE_LINK_LOG: Final = "link"
# If a step takes longer, the screen shows what it writes.
LONG_SECONDS = 5.0


APIS: Final = ("command-api", "query-api", "event-api")
#: What the processes of Muster import, so that one import serves the first start of each.
PRELOADED: Final = (
    *(
        "cli.processes.serve",
        "command_api.app",
        "query_api.app",
        "event_api.app",
        "console.app",
        "cli.processes.relay",
        "cli.processes.project",
        "cli.migrate",
        "cli.roles.command",
        "cli.operations.rebuild",
        "cli.topics",
        "cli.access.console",
    ),
    *("command_api.migrate", "projectors.migrate"),
    # uvicorn imports these by name when it starts.
    *("uvicorn.protocols.http.httptools_impl", "uvicorn.lifespan.on", "uvicorn.loops.uvloop"),
)


class LocalStack:
    """What `muster up` runs, on one data folder: all of it, or only some parts."""

    def __init__(  # noqa: PLR0913 - each is a property of the stack
        self,
        folder: Path,
        ports: Ports,
        screen: Screen,
        *,
        program: Program,
        started_at: datetime,
        only: frozenset[str] = ALL_PARTS,
        chosen: ServerSet = ONE_OF_EACH,
    ) -> None:
        self.folder = folder
        self.ports = ports
        self._screen = screen
        self._program = program
        self._started_at = started_at
        self.only = only
        self.logs = folder / "logs"
        self.settings: dict[str, str] = {}
        self._ready_at: datetime | None = None
        self._migrated = asyncio.Event()  # set also where there is nothing to migrate
        self._watchdog = Watchdog()
        self._preloaded: Preloaded | None = None
        self.servers = Servers(
            folder,
            chosen,
            postgres_port=ports.postgres,
            kafka_port=ports.kafka,
            logs=self.logs,
            principals=tuple(KAFKA_PRINCIPALS.values()),
        )
        self.processes: list[HttpProcess] = []
        self.supervisor = Supervisor(screen)
        for server in (*self.servers.databases, *self.servers.brokers):
            server.marks[MARK_VARIABLE] = str(folder)

    @property
    def children(self) -> list[Child]:
        """All processes, servers first."""
        databases = self.servers.databases if "postgres" in self.only else []
        brokers = self.servers.brokers if "kafka" in self.only else []
        return [*databases, *brokers, *self.processes]

    def plan(self) -> None:
        """Make the settings and every process; start nothing."""
        self.servers.remember()
        address = self.servers.postgres.address
        self.settings = stack_settings(self.folder, self.ports, address) | server_settings(self.servers)
        self.logs.mkdir(exist_ok=True)
        for private in filter(Path.exists, (self.logs, issuer_folder(self.folder))):
            private.chmod(0o700)
        if self._program.modules and self.only & SERVICES:
            self._preloaded = Preloaded(
                self._program, self._environment("imports"), self.folder, self.logs / "imports.log"
            )
        every = [
            self._process("command-api", ("serve", "command", "--port", str(self.ports.command)), self.ports.command),
            self._process("query-api", ("serve", "query", "--port", str(self.ports.query)), self.ports.query),
            self._process("relay", ("relay",), self.ports.relay),
            self._process("projectors", ("project",), self.ports.projectors),
            self._process("event-api", ("serve", "events", "--port", str(self.ports.events)), self.ports.events),
            self._process("console", ("serve", "console", "--port", str(self.ports.console)), self.ports.console),
        ]
        self.processes = [process for process in every if process.name in self.only]
        # It is ready once the tables that it reads are there.
        every[1].ready_within = REBUILD_SECONDS
        for child in self.children:
            child.watchdog = self._watchdog

    async def start(self) -> None:
        """Start everything and return when all of it is ready.

        Raises:
            LocalStackError: a part failed; `stop` ends the others.
        """
        await self._watchdog.start()
        try:
            async with asyncio.TaskGroup() as group:
                if self._preloaded:
                    group.create_task(self._imports(self._preloaded))
                group.create_task(self._relay_lane(kafka=group.create_task(self._kafka_lane())))
                group.create_task(self._postgres_lane())
            await self._make_link()
        except* Exception as failures:  # noqa: BLE001 - a person needs to see the first one
            raise _first_error(failures) from None
        finally:
            if self._preloaded:
                await self._preloaded.end()

    async def stop(self, hasten: asyncio.Event) -> None:
        """End everything in order; faster once `hasten` is set."""
        by_name: dict[str, Child] = {child.name: child for child in self.processes}
        apis = [by_name[name] for name in (*APIS, "console") if name in by_name]
        middle = [[by_name[name]] for name in ("relay", "projectors") if name in by_name]
        if self.servers.kafka.learning:
            self._screen.console.print(
                "Kafka writes its start-up cache for next time; this end takes some seconds longer, once."
            )
        # The primary first: it ends once its standby has all of its log.
        databases = [[server] for server in self.servers.databases]
        await self.supervisor.stop([apis, *middle, self.servers.brokers, *databases], hasten)
        await self._watchdog.end()
        stack_file.remove(self.folder)

    def ready(self, at: datetime) -> None:
        """Write to stack.json that everything is ready."""
        self._ready_at = at
        self.write_down()

    def write_down(self) -> None:
        """Write what runs now to stack.json."""
        stack_file.write(
            Stack(
                supervisor_pid=os.getpid(),
                started_at=_rfc3339(self._started_at),
                ready_at=_rfc3339(self._ready_at) if self._ready_at else None,
                folder=str(self.folder),
                settings=self.settings,
                processes=self.entries(),
            ),
            self.servers.kafka.client_properties(),
        )

    def entries(self) -> list[ProcessEntry]:
        """Describe what runs now."""
        entries = [
            *(self._entry(server, server.port, None, {}) for server in self.servers.databases),
            *(self._entry(server, server.port, None, {}) for server in self.servers.brokers),
            *(
                self._entry(process, process.port, process.url, self._settings_of(process.name))
                for process in self.processes
            ),
        ]
        return [entry for entry in entries if entry is not None]

    async def _imports(self, preloaded: Preloaded) -> None:
        with self._screen.step("Imports"):
            await preloaded.start()
            await preloaded.loaded()

    async def _kafka_lane(self) -> None:
        if "kafka" in self.only:
            await self._fetch_jars()
            with self._screen.step("Kafka"):
                await self.supervisor.start(*self.servers.brokers)
            # Each principal is named as the option that gives it its rights.
            await self._run("Topics", "topics", "--acls", *(f"--{name}={name}" for name in KAFKA_PRINCIPALS.values()))

    async def _relay_lane(self, kafka: asyncio.Task[None]) -> None:
        await kafka
        await self._migrated.wait()
        if "projectors" in self.only:
            await self._run("Read tables", "rebuild", "outdated", within=REBUILD_SECONDS)
        await self._start("Relay, projectors and event API", "relay", "projectors", "event-api")

    async def _postgres_lane(self) -> None:
        if "postgres" in self.only:
            with self._screen.step("PostgreSQL"):
                await self.supervisor.start(self.servers.postgres)
            if self.servers.standby:
                with self._screen.step("Standby"):
                    await self.supervisor.start(self.servers.standby)
                    await self.servers.standby.until_it_follows(synchronous=self.servers.chosen.synchronous)
            with self._screen.step("Databases"):
                for database in (COMMAND_DATABASE, QUERY_DATABASE):
                    await self.servers.postgres.create_database(database)
            await self._run("Roles", "roles", "all")
            await self._run("Migrations", "migrate", "all")
        self._migrated.set()
        await self._start("APIs and console", "command-api", "query-api", "console")

    async def _make_link(self) -> None:
        """Make a link that signs in to the console; the stack also works without it."""
        log = self.logs / f"{CONSOLE_LINK_LOG}.log"
        log.unlink(missing_ok=True)
        if CONSOLE in self.only and trusts_own_issuer(self.folder, self.settings):
            # Where it takes too long, what is printed says that there is no link.
            with self._screen.step("Link to the console"), suppress(TimeoutError):
                await self._run_to_its_end(("console", "link"), log, LINK_SECONDS)

    async def _start(self, step: str, *names: str) -> None:
        wanted = [process for process in self.processes if process.name in names]
        if wanted:
            with self._screen.step(step):
                await self.supervisor.start(*wanted)

    async def _fetch_jars(self) -> None:
        jars = pinned_jars()
        missing = missing_jars(jars, jar_folder())
        if missing:
            megabytes = sum(jar.size for jar in missing) / 1_000_000
            step = f"Kafka's jars ({megabytes:.0f} MB, once)"
            with self._screen.step(step, total=sum(jar.size for jar in missing)) as advance:
                await fetch_jars(jars, jar_folder(), advance)

    async def _run(self, step: str, *arguments: str, within: float = ONE_SHOT_SECONDS) -> None:
        """Run a command of Muster that ends by itself."""
        log = self.logs / f"{arguments[0]}.log"
        with self._screen.step(step):
            try:
                async with alongside(self._show_if_long(arguments[0], log)):
                    code = await self._run_to_its_end(arguments, log, within)
            except TimeoutError:
                what = f"did not end within {within:.0f} s"
            else:
                what = f"failed ({describe_exit(code)})" if code else ""
            if what:
                raise ChildFailedError(f"muster {' '.join(arguments)}", what, log, last_lines(log, 20))

    async def _show_if_long(self, name: str, log: Path) -> None:
        await asyncio.sleep(LONG_SECONDS)
        await self._screen.follow(name, log)

    async def _run_to_its_end(self, arguments: tuple[str, ...], log: Path, within: float) -> int:
        command = [*self._program.command, *arguments]
        copy = await self._preloaded.copy(command, log, self._environment(arguments[0])) if self._preloaded else None
        if copy:
            return await until_ended(copy, within)
        return await run_once(
            command,
            environment=self._environment(arguments[0]),
            folder=self.folder,
            log=log,
            within=within,
        )

    def _process(self, name: str, arguments: tuple[str, ...], port: int) -> HttpProcess:
        return HttpProcess(
            name,
            [*self._program.command, *arguments],
            port=port,
            environment=self._environment(name),
            folder=self.folder,
            log=self.logs / f"{name}.log",
            preloaded=self._preloaded,
        )

    def _environment(self, part: str) -> Mapping[str, str]:
        return process_environment(self.folder, self._settings_of(part))

    def _settings_of(self, part: str) -> dict[str, str]:
        told = settings_of(part, self.settings)
        if part == "topics":
            return told
        # Rebuilds, and the console, read the topic as the projectors do.
        principal = KAFKA_PRINCIPALS.get("projectors" if part in {"rebuild", "console"} else part)
        return kafka_settings_of(told, self.servers.kafka.client_settings(principal) if principal else {})

    def _entry(self, child: Child, port: int, url: str | None, settings: Mapping[str, str]) -> ProcessEntry | None:
        pid = child.pid
        if pid is None:
            return None
        return ProcessEntry(child.name, pid, port, url, str(child.log), child.command(), dict(settings))


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def muster() -> Program:
    """Return the program `muster`; its processes have this name in a process list."""
    return Program(_command(), "cli.main:main", PRELOADED)


def _command() -> tuple[str, ...]:
    beside = Path(sys.executable).with_name("muster")
    if beside.is_file():
        return (str(beside),)
    if found := shutil.which("muster"):
        return (found,)
    return (sys.executable, "-m", "cli.main")


def _first_error(failures: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first single error of a tree of groups."""
    error = failures.exceptions[0]
    return _first_error(error) if isinstance(error, BaseExceptionGroup) else error
