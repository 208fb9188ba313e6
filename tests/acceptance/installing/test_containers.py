"""What docker-compose.yml starts, started without Docker: the same commands, environment and packages, real servers.

An engine puts walls around it (a read-only root, another user); here it is seen that the walls are in nobody's way,
because nothing is written.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from chassis.postgres.roles import ROLES
from local_stack.ports import LOCALHOST, free_port
from tests.acceptance.stack import READY_SECONDS, clean_environment
from tests.conftest import create_database, drop_database
from tests.databases import PASSWORD
from tests.infrastructure import Servers
from tests.issuing import auth, bearer
from tests.unit.containers.files import environment_of
from tests.unit.containers.files import service as described
from tests.waiting import until

#: Each kind of process, and the variable that moves its port: here they share one machine.
PORTS = {
    "command-api": "COMMAND_API",
    "query-api": "QUERY_API",
    "event-api": "EVENT_API",
    "relay": "RELAY_HTTP",
    "projectors": "PROJECTORS_HTTP",
}
#: The same for their inner ports, where they have one of its own.
INNER_PORTS = {"command-api": "COMMAND_API_OPS", "query-api": "QUERY_API_OPS", "event-api": "EVENT_API_OPS"}
NOWHERE = "1"  # a port on which nobody listens


@dataclass(slots=True)
class Composed:
    """The containers of docker-compose.yml as processes."""

    programs: Path
    folder: Path
    dotenv: dict[str, str]
    servers: Servers
    secrets: Path
    running: dict[str, tuple[asyncio.subprocess.Process, int]] = field(default_factory=dict)
    inner: dict[str, int] = field(default_factory=lambda: {name: free_port() for name in INNER_PORTS})

    def environment(self, name: str, port: int = 0) -> dict[str, str]:
        """What the container is told, with this machine's addresses in place of the containers' network."""
        told = environment_of(name, self.dotenv, self.secrets)
        here = {
            "POSTGRES_SERVER": self.servers.postgres.host,
            "POSTGRES_PORT": str(self.servers.postgres.port),
            **auth(),
        }
        told |= {variable: value for variable, value in here.items() if variable in told}
        if "KAFKA_BOOTSTRAP_SERVERS" in told:
            told = {variable: value for variable, value in told.items() if not variable.startswith("KAFKA_")}
            told |= self.servers.kafka
        if port:
            told |= {f"{each}_PORT": NOWHERE for each in (*PORTS.values(), *INNER_PORTS.values())}
            told |= {f"{PORTS[name]}_PORT": str(port), f"{PORTS[name]}_HOST": LOCALHOST}
        if port and name in INNER_PORTS:
            told |= {f"{INNER_PORTS[name]}_PORT": str(self.inner[name]), f"{INNER_PORTS[name]}_HOST": LOCALHOST}
        path = f"{self.programs}:{os.environ['PATH']}"
        return clean_environment() | told | {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}

    def make_secrets(self) -> None:
        """Run the container that makes them."""
        words = [str(self.programs / "muster"), "secrets", str(self.secrets)]
        subprocess.run(words, env=self.environment("secrets"), cwd=self.folder, check=True, timeout=READY_SECONDS)

    def migrate(self) -> None:
        """Run the container that the others wait for."""
        words = [*described("migrate")["entrypoint"], *described("migrate")["command"]]
        subprocess.run(words, env=self.environment("migrate"), cwd=self.folder, check=True, timeout=READY_SECONDS)

    async def start(self, name: str) -> None:
        """Start every replica of a container."""
        for number in range(described(name).get("deploy", {}).get("replicas", 1)):
            port = free_port()
            process = await asyncio.create_subprocess_exec(
                self.programs / "muster",
                *described(name)["command"],
                env=self.environment(name, port),
                cwd=self.folder,
                stderr=subprocess.DEVNULL,
            )
            self.running[f"{name}-{number}"] = process, port

    async def is_healthy(self, instance: str) -> bool:
        """Ask as the image's HEALTHCHECK does."""
        name = instance.rpartition("-")[0]
        probe = await asyncio.create_subprocess_exec(
            self.programs / "python",
            *("-m", "cli.processes.probe"),
            env=self.environment(name, self.running[instance][1]),
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )
        return await probe.wait() == 0

    async def stop(self) -> dict[str, int]:
        """SIGTERM to all; gives each one's exit code. Compose would use SIGKILL after the grace period."""
        for process, _ in self.running.values():
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
        grace = int(described("command-api")["stop_grace_period"].removesuffix("s"))
        async with asyncio.timeout(grace):
            return {name: await process.wait() for name, (process, _) in self.running.items()}

    def url(self, instance: str) -> str:
        """Where one of them is."""
        return f"http://{LOCALHOST}:{self.running[instance][1]}"


@pytest.fixture
async def composed(service: Path, servers: Servers, tmp_path: Path) -> AsyncIterator[Composed]:
    """The database made that the image of PostgreSQL makes, nothing running yet; all that runs is ended afterwards."""
    unique = uuid4().hex[:12]
    dotenv = {
        "POSTGRES_USER": servers.postgres.user,
        "POSTGRES_PASSWORD": servers.postgres.password,
        **{f"{prefix}_POSTGRES_PASSWORD": PASSWORD for prefix, _ in ROLES.values()},
        "COMMAND_POSTGRES_DB": f"command_{unique}",
        "QUERY_POSTGRES_DB": f"query_{unique}",
        "EVENTS_TOPIC": f"users.events.{unique}",
        "RELAY_TOPIC": f"outbox.relay.{unique}",
        "RELAY_NAME": unique,
        "PROJECTORS_GROUP": unique,
        "WORKERS": "2",
        # A hash that costs little: what it costs is not what is tested.
        "ARGON2_MEMORY_KIB": "64",
    }
    await create_database(servers, dotenv["COMMAND_POSTGRES_DB"], "template1")
    (tmp_path / "work").mkdir()
    composed = Composed(service, tmp_path / "work", dotenv, servers, tmp_path / "secrets")
    try:
        yield composed
    finally:
        await composed.stop()
        for name in ("COMMAND_POSTGRES_DB", "QUERY_POSTGRES_DB"):
            await drop_database(servers, dotenv[name])


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


async def test_every_container_becomes_healthy_serves_and_ends_in_time_without_writing_a_file(
    composed: Composed,
) -> None:
    await asyncio.to_thread(composed.make_secrets)
    before = _files(composed.programs.parent)
    await asyncio.to_thread(composed.migrate)
    for name in PORTS:
        await composed.start(name)
    for instance in composed.running:
        await until(partial(composed.is_healthy, instance), within=READY_SECONDS, what=instance)

    person = {"email": "ada@example.com", "username": "ada", "password": "correct horse"}
    async with httpx.AsyncClient() as http:
        made = await http.post(f"{composed.url('command-api-0')}/users", json=person, headers=bearer())
        assert made.status_code == 201, made.text
        read = await http.get(
            f"{composed.url('query-api-0')}/users/{made.json()['id']}",
            headers={**bearer(), "Consistency-Token": made.headers["Consistency-Token"], "Prefer": "wait=10"},
        )
    assert read.json() == made.json()
    assert await composed.stop() == dict.fromkeys(composed.running, 0)
    assert _files(composed.programs.parent) == before
    assert _files(composed.folder) == set()
