"""Which real PostgreSQL and Kafka the tests use: started once per run, never mocked, never skipped.

The first that is there:

1. servers named in the environment (`TEST_POSTGRES_SERVER`, `_PORT`, `_USER`, `_PASSWORD` and
   `TEST_KAFKA_BOOTSTRAP_SERVERS`);
2. Docker, through testcontainers, where a daemon answers and has the images (`MUSTER_TEST_PULL=1` lets it pull them);
3. `local_stack`: the wheels' binaries and the pinned jars as child processes.

`SharedServers` can be used from synchronous fixtures: it runs an event loop in a thread of its own, which also is the
thread the children die with. A test that kills or pauses a server starts a private one from `local_stack` instead.
"""

import asyncio
import os
import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

from chassis.kafka.client import KAFKA_ERRORS, admin
from chassis.settings import Kafka
from local_stack.kafka.broker import KafkaServer
from local_stack.ports import LOCALHOST, free_port
from local_stack.postgres.server import PostgresServer, ServerAddress, postgres_answers

POSTGRES_IMAGE = "postgres:18"
KAFKA_IMAGE = "apache/kafka:4.3.1"

#: How each kind is named, at the head of a run.
DOCKER = f"Docker ({POSTGRES_IMAGE}, {KAFKA_IMAGE})"
LOCAL = "local_stack (child processes)"

DAEMON_SECONDS = 1  # a Docker daemon on this machine answers in 12 ms, or not at all
READY_SECONDS = 90.0  # containers on a loaded CI machine
START_SECONDS = 300.0  # everything, with a first download
PROBE_SECONDS = 0.1

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers of this run; `kind` says where they come from, in words."""

    kind: str
    postgres: ServerAddress
    #: The variables with which a process of Muster may do everything on the broker.
    kafka: Mapping[str, str]


class InfrastructureError(Exception):
    """No servers could be had; the message says why."""


class SharedServers:
    """Starts the servers of a test run and ends them; usable from synchronous code."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-servers", daemon=True)
        self._stack = AsyncExitStack()
        self._servers: Servers | None = None

    @property
    def servers(self) -> Servers:
        """The servers; they answer once `start` has returned."""
        assert self._servers is not None, "not started"
        return self._servers

    def start(self) -> Servers:
        """Start, or find, the servers and return when both answer."""
        self._thread.start()
        try:
            self._servers = self._run(self._enter(), START_SECONDS)
        except BaseException:
            self.stop()
            raise
        return self._servers

    def stop(self) -> None:
        """End what was started; servers from the environment are left alone. Harmless a second time."""
        if self._loop.is_closed():
            return
        try:
            self._run(self._stack.aclose(), START_SECONDS)
            self._run(self._loop.shutdown_default_executor(), START_SECONDS)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, work: Coroutine[Any, Any, Result], seconds: float) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(seconds)

    async def _enter(self) -> Servers:
        match choose():
            case Choice(named=Servers() as servers):
                pass
            case Choice(docker=True):
                servers = await asyncio.to_thread(self._start_containers)
            case _:
                servers = await self._local()
        await _until_both_answer(servers)
        return servers

    def _start_containers(self) -> Servers:
        password = secrets.token_urlsafe(16)
        postgres = postgres_container(free_port(), password)
        kafka = kafka_container(free_port())
        for container in (postgres, kafka):
            self._stack.push_async_callback(asyncio.to_thread, container.stop)
            container.start()
        [postgres_port], [kafka_port] = postgres.ports.values(), kafka.ports.values()
        return Servers(
            DOCKER,
            ServerAddress(LOCALHOST, _host_port(postgres_port), "muster", password),
            open_broker(f"{LOCALHOST}:{_host_port(kafka_port)}"),
        )

    async def _local(self) -> Servers:
        folder = throwaway_folder()
        self._stack.push_async_callback(asyncio.to_thread, shutil.rmtree, folder)
        postgres = PostgresServer(folder / "postgres", durable=False)
        kafka = KafkaServer(folder / "kafka", principals=("nobody",))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stack.enter_async_context(postgres))
            group.create_task(self._stack.enter_async_context(kafka))
        return Servers(LOCAL, postgres.address, kafka.client_settings())


def open_broker(bootstrap: str) -> dict[str, str]:
    """The variables of a broker that asks nobody for a password."""
    return {"KAFKA_BOOTSTRAP_SERVERS": bootstrap}


def throwaway_folder() -> Path:
    """Make a folder for a private server that PostgreSQL's user can reach even when we are root; remove it yourself."""
    folder = Path(tempfile.mkdtemp(prefix="muster-test-"))
    folder.chmod(0o755)
    return folder


def named_servers() -> Servers | None:
    """Return the servers the environment names, None where it names none.

    Raises:
        InfrastructureError: it names only some of what is needed.
    """
    names = [f"TEST_POSTGRES_{part}" for part in ("SERVER", "PORT", "USER", "PASSWORD")]
    names.append("TEST_KAFKA_BOOTSTRAP_SERVERS")
    values = {name: os.environ.get(name) for name in names}
    if not any(values.values()):
        return None
    values["TEST_POSTGRES_PORT"] = values["TEST_POSTGRES_PORT"] or "5432"
    missing = [name for name, value in values.items() if not value]
    if missing:
        raise InfrastructureError(f"The environment names some test servers, but not {', '.join(missing)}.")
    host, port, user, password, bootstrap = (str(value) for value in values.values())
    return Servers("named in the environment", ServerAddress(host, int(port), user, password), open_broker(bootstrap))


@dataclass(frozen=True, slots=True)
class Choice:
    """Which servers a run uses, and in words, with the reason where it is the last resort."""

    words: str
    named: Servers | None = None
    docker: bool = False


@cache
def choose() -> Choice:
    """Decide once a run; starts nothing.

    Raises:
        InfrastructureError: the environment names only some of what is needed.
    """
    if named := named_servers():
        return Choice(named.kind, named=named)
    if trouble := trouble_with_docker():
        return Choice(f"{LOCAL}, because {trouble}")
    return Choice(DOCKER, docker=True)


def trouble_with_docker() -> str | None:
    """Why Docker cannot be used: no daemon, or an image that only MUSTER_TEST_PULL=1 lets us pull; None if it can."""
    if not _docker_socket_answers():
        return "no Docker daemon answers"
    import docker  # type: ignore[import-untyped]  # noqa: PLC0415 - half a second to import
    from docker.errors import DockerException, ImageNotFound  # type: ignore[import-untyped]  # noqa: PLC0415 - as above
    from requests import RequestException  # noqa: PLC0415 - as above
    from testcontainers.core.config import testcontainers_config  # noqa: PLC0415 - as above

    images = [POSTGRES_IMAGE, KAFKA_IMAGE]
    if not testcontainers_config.ryuk_disabled:
        images.append(testcontainers_config.ryuk_image)
    try:
        client = docker.from_env(timeout=DAEMON_SECONDS)
    except DockerException as error:
        return f"Docker does not work: {error}"
    try:
        client.ping()
        if os.environ.get("MUSTER_TEST_PULL") == "1":
            return None
        for image in images:
            try:
                client.images.get(image)
            except ImageNotFound:
                return f"Docker has no image {image} (MUSTER_TEST_PULL=1 lets the tests pull it)"
    except (DockerException, RequestException) as error:
        return f"Docker does not work: {error}"
    else:
        return None
    finally:
        client.close()


def _docker_socket_answers() -> bool:
    """Look before docker-py does, which leaves its socket open when nobody answers."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not host.startswith("unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(DAEMON_SECONDS)
        try:
            probe.connect(host.removeprefix("unix://"))
        except OSError:
            return False
    return True


def postgres_container(port: int, password: str) -> Any:
    """Describe a PostgreSQL container that listens on one port of 127.0.0.1."""
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - slow to import, seldom needed

    container = DockerContainer(POSTGRES_IMAGE, command="postgres -c max_connections=300 -c fsync=off")
    container.with_envs(POSTGRES_USER="muster", POSTGRES_PASSWORD=password)
    container.ports["5432/tcp"] = (LOCALHOST, port)  # type: ignore[assignment] # docker-py takes the pair
    return container


def kafka_container(port: int) -> Any:
    """Describe a one-node KRaft broker that listens on one port of 127.0.0.1.

    testcontainers' own Kafka class is made for another image. As soon as one variable is set the image forgets its
    single-node settings, so all of them are set.
    """
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - as above

    container = DockerContainer(KAFKA_IMAGE)
    container.with_envs(
        KAFKA_NODE_ID="1",
        KAFKA_PROCESS_ROLES="broker,controller",
        KAFKA_CONTROLLER_QUORUM_VOTERS="1@localhost:9093",
        KAFKA_LISTENERS=f"PLAINTEXT://:{port},CONTROLLER://:9093",
        KAFKA_ADVERTISED_LISTENERS=f"PLAINTEXT://{LOCALHOST}:{port}",
        KAFKA_CONTROLLER_LISTENER_NAMES="CONTROLLER",
        KAFKA_LISTENER_SECURITY_PROTOCOL_MAP="CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        KAFKA_INTER_BROKER_LISTENER_NAME="PLAINTEXT",
        # Everybody may do everything, but rights can be given.
        KAFKA_AUTHORIZER_CLASS_NAME="org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        KAFKA_SUPER_USERS="User:ANONYMOUS",
        KAFKA_AUTO_CREATE_TOPICS_ENABLE="false",
        KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR="1",
        KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR="1",
        KAFKA_TRANSACTION_STATE_LOG_MIN_ISR="1",
        KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR="1",
        KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR="1",
        KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS="0",
    )
    container.ports[f"{port}/tcp"] = (LOCALHOST, port)  # type: ignore[assignment] # docker-py takes the pair
    return container


def _host_port(binding: Any) -> int:
    return int(binding[1])


async def _until_both_answer(servers: Servers) -> None:
    """Wait for both: containers and servers from elsewhere may still be starting."""
    kafka = Kafka.model_validate(servers.kafka)
    try:
        async with asyncio.timeout(READY_SECONDS):
            while not (await postgres_answers(servers.postgres) and await _kafka_answers(kafka)):  # noqa: ASYNC110
                await asyncio.sleep(PROBE_SECONDS)
    except TimeoutError as error:
        raise InfrastructureError(
            f"The test servers ({servers.kind}) did not answer within {READY_SECONDS:.0f} s: PostgreSQL at "
            f"{servers.postgres.host}:{servers.postgres.port}, Kafka at {kafka.kafka_bootstrap_servers}."
        ) from error


async def _kafka_answers(kafka: Kafka) -> bool:
    try:
        async with admin(kafka):
            return True
    except KAFKA_ERRORS:
        return False
