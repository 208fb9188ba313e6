"""Servers of one benchmark: PostgreSQL and Kafka, Muster's own processes, and reference apps, as they are really run.

Durable settings throughout (fsync on), 127.0.0.1 only, data and logs in the plan's scratch folder. Every block ends
what it started, also when it is cancelled, and nothing outlives a killed benchmark (local_stack/processes/child.py).
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from uuid import uuid4

import asyncpg
from pydantic import SecretStr

from benchmarks.running.cores import ALL_CORES, OTHER_CORES, pin
from benchmarks.running.plan import Plan
from benchmarks.running.profiles import recording
from chassis.kafka.client import admin, ensure_topics
from chassis.postgres.roles import ROLES
from chassis.settings import Kafka, PostgresAddress, Settings, Topics
from cli.stack.local_stack import muster
from cli.stack.settings import COMMAND_DATABASE, QUERY_DATABASE, Ports, process_environment, stack_settings
from command_api.migrate import migrate as migrate_command
from local_stack.kafka.broker import KafkaServer
from local_stack.ports import free_port
from local_stack.postgres.server import PostgresServer, ServerAddress
from local_stack.processes.http_process import HttpProcess
from outbox.topics import wanted_topics
from projectors.migrate import migrate as migrate_query

#: Room for a million users on both sides, so that no checkpoint happens during a round.
POSTGRES_SETTINGS: Final = {"shared_buffers": "1GB", "max_wal_size": "4GB"}
#: Apps that are no Muster's.
REFERENCES: Final = "benchmarks.references."
#: One worker, no access log and uvicorn's fastest parts.
UVICORN: Final = (
    "--loop",
    "uvloop",
    "--http",
    "httptools",
    "--no-access-log",
    "--log-level",
    "warning",
    "--no-proxy-headers",
)
#: The checkout: reference apps are imported from it.
CHECKOUT: Final = Path(__file__).parents[2]
CONNECT_SECONDS: Final = 10.0

#: Which variable says on which inner port an API tells how it is.
OPS_PORTS: Final = {
    "command": "COMMAND_API_OPS_PORT",
    "query": "QUERY_API_OPS_PORT",
    "events": "EVENT_API_OPS_PORT",
}
Side = Literal["command", "query"]
Process = Literal["relay", "project"]
Api = Literal["command", "query", "events"]
S = TypeVar("S", bound=Settings)


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers that run and how to reach them; `environment` is the whole one of any `muster` process."""

    plan: Plan
    postgres: PostgresServer
    kafka: KafkaServer | None
    environment: Mapping[str, str]
    databases: Mapping[Side, str] = field(
        default_factory=lambda: {"command": COMMAND_DATABASE, "query": QUERY_DATABASE}
    )

    @property
    def command(self) -> PostgresAddress:
        """The command database."""
        return self._address("command")

    @property
    def query(self) -> PostgresAddress:
        """The query database."""
        return self._address("query")

    def url(self, side: Side) -> str:
        """One of the databases for an app that takes SQLAlchemy's URL, password included."""
        return self.postgres.address.dsn(self.databases[side]).replace("postgresql", "postgresql+asyncpg", 1)

    @property
    def kafka_settings(self) -> Kafka:
        """How to reach the broker."""
        return self.settings(Kafka)

    def settings(self, kind: type[S]) -> S:
        """Load a settings class as a process with `environment` would."""
        values: dict[str, Any] = dict(self.environment)
        return kind(_env_file=None, **values)

    async def new_topics(self, partitions: int = 12) -> "Servers":
        """The same servers with topics of new names."""
        unique = uuid4().hex[:8]
        names = {
            "EVENTS_TOPIC": f"users.events.{unique}",
            "RELAY_TOPIC": f"outbox.relay.{unique}",
            "TOPIC_PARTITIONS": str(partitions),
            # Groups and transactions get new names too, so that nothing of an earlier round is resumed.
            "RELAY_NAME": f"users.{unique}",
            "PROJECTORS_GROUP": f"muster.{unique}",
        }
        made = replace(self, environment={**self.environment, **names})
        await make_topics(made)
        return made

    async def new_database(self, side: Side) -> "Servers":
        """The same servers with another database of this side, empty and migrated."""
        name = f"{side}_{uuid4().hex[:8]}"
        variable = f"{side.upper()}_POSTGRES_DB"
        made = replace(self, environment={**self.environment, variable: name}, databases={**self.databases, side: name})
        await make_database(made, side)
        return made

    @asynccontextmanager
    async def session(self, side: Side) -> AsyncIterator[asyncpg.Connection]:
        """Yield a connection to one of the databases."""
        arguments = self._address(side).connect_arguments
        connection = await asyncpg.connect(**arguments, timeout=CONNECT_SECONDS)
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def app(
        self,
        factory: str,
        *,
        cores: frozenset[int] = ALL_CORES,
        variables: Mapping[str, str] | None = None,
        ready: str = "/readyz",
        hot: bool = False,
    ) -> AsyncIterator[HttpProcess]:
        """One process with the app that `module:factory` makes, once it answers; `hot` is profiled if wanted.

        A reference has uvicorn as it comes, an app of ours our transport.
        """
        port = free_port()
        command = [sys.executable, "-m", "uvicorn", factory, "--factory", "--port", str(port), *UVICORN]
        if not factory.startswith(REFERENCES):
            command = [sys.executable, "-m", "benchmarks.running.serving", factory, str(port)]
        name = factory.partition(":")[0].rpartition(".")[2] + "-" + factory.partition(":")[2].replace("_", "-")
        process = self._process(name, command, port, variables or {}, ready)
        async with self._running(process, cores, hot=hot):
            yield process

    @asynccontextmanager
    async def api(
        self, name: Api, *, cores: frozenset[int] = ALL_CORES, variables: Mapping[str, str] | None = None
    ) -> AsyncIterator[HttpProcess]:
        """Run `muster serve` with one of the APIs, as it is served, transport and all; yield once it is ready."""
        port = free_port()
        command = [*muster().command, "serve", name, "--port", str(port)]
        chosen = {OPS_PORTS[name]: str(free_port()), "WORKERS": "1", **(variables or {})}
        process = self._process(f"{name}-api", command, port, chosen, "/readyz")
        async with self._running(process, cores, hot=True):
            yield process

    @asynccontextmanager
    async def muster(
        self,
        name: Process,
        *,
        cores: frozenset[int] = ALL_CORES,
        variables: Mapping[str, str] | None = None,
        hot: bool = False,
    ) -> AsyncIterator[HttpProcess]:
        """Run `muster relay` or `muster project`; yield once it is ready."""
        port = free_port()
        process = self._process(name, [*muster().command, name, "--port", str(port)], port, variables or {}, "/readyz")
        async with self._running(process, cores, hot=hot):
            yield process

    @asynccontextmanager
    async def console(self, addresses: Mapping[str, str]) -> AsyncIterator[HttpProcess]:
        """Run `muster serve console` beside the processes at these addresses; yield once it is ready."""
        port = free_port()
        command = [*muster().command, "serve", "console", "--port", str(port)]
        variables = {"CONSOLE_OPS_PORT": str(free_port()), **addresses}
        process = self._process("console", command, port, variables, "/readyz")
        async with self._running(process, ALL_CORES, hot=True):
            yield process

    def _process(
        self, name: str, command: list[str], port: int, variables: Mapping[str, str], ready: str
    ) -> HttpProcess:
        search = os.pathsep.join(filter(None, (str(CHECKOUT), os.environ.get("PYTHONPATH"))))
        return HttpProcess(
            name,
            command,
            port=port,
            environment={**self.environment, "PYTHONPATH": search, **variables},
            folder=self.plan.folder,
            log=self.plan.folder / f"{name}-{port}.log",
            ready_path=ready,
        )

    @asynccontextmanager
    async def _running(self, process: HttpProcess, cores: frozenset[int], *, hot: bool) -> AsyncIterator[None]:
        async with process:
            assert process.pid is not None
            pin(process.pid, cores)
            async with recording(self.plan, process.name, process.pid if hot else None):
                yield

    def _address(self, side: Side) -> PostgresAddress:
        server = self.postgres.address
        return PostgresAddress(
            server=server.host,
            port=server.port,
            user=server.user,
            password=SecretStr(server.password),
            database=self.databases[side],
        )


@asynccontextmanager
async def open_servers(
    plan: Plan,
    *,
    kafka: bool = True,
    postgres_settings: Mapping[str, str] | None = None,
    kafka_settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Servers]:
    """Run PostgreSQL with both databases migrated and, if wanted, Kafka with its topics."""
    plan.say("starting the servers")
    folder = plan.folder / uuid4().hex[:8]
    async with AsyncExitStack() as stack:
        postgres = PostgresServer(folder / "postgres", settings={**POSTGRES_SETTINGS, **(postgres_settings or {})})
        broker = KafkaServer(folder / "kafka", learn=False, settings=kafka_settings) if kafka else None
        async with asyncio.TaskGroup() as group:
            for server in filter(None, (postgres, broker)):
                group.create_task(stack.enter_async_context(server))
        # Ports of processes are chosen when the processes are started.
        http = (8000, 8001, 8002, 8003, 8004, 8005, 8009, 8010, 8011, 8012)
        ports = Ports(postgres.port, broker.port if broker else 1, *http)
        environment = process_environment(plan.folder, open_settings(folder, ports, postgres.address))
        servers = Servers(plan, postgres, broker, environment)
        await make_database(servers, "command")
        await make_database(servers, "query")
        if broker:
            await make_topics(servers)
        yield servers


def open_settings(folder: Path, ports: Ports, postgres: ServerAddress) -> dict[str, str]:
    """Return a stack's settings with access off: the references that we measure against ask nobody for a token.

    All processes are one user of PostgreSQL, as the references are: this server has no roles.
    """
    of_roles = tuple(f"{prefix}_POSTGRES_{part}" for prefix, _ in ROLES.values() for part in ("USER", "PASSWORD"))
    made = stack_settings(folder, ports, postgres)
    settings = {name: value for name, value in made.items() if name not in of_roles}
    closed = {name: "" for name in settings if name.startswith("AUTH_")}
    return {**settings, **closed, "AUTH_DISABLED": "true"}


async def make_database(servers: Servers, side: Side) -> None:
    """Create and migrate one of the databases."""
    await servers.postgres.create_database(servers.databases[side])
    migrate = migrate_command if side == "command" else migrate_query
    await asyncio.to_thread(migrate, servers.command if side == "command" else servers.query)


async def make_topics(servers: Servers) -> None:
    """Create the topics that the environment names."""
    async with admin(servers.kafka_settings) as client:
        await ensure_topics(client, wanted_topics(servers.settings(Topics)))


def pin_servers(servers: Servers, cores: frozenset[int] = OTHER_CORES) -> None:
    """Let PostgreSQL, with what it starts from now on, and Kafka use these cores only."""
    for server in filter(None, (servers.postgres, servers.kafka)):
        assert server.pid is not None
        pin(server.pid, cores)
