"""A Kafka Connect worker in distributed mode that publishes the rows of an outbox exactly once, by Debezium.

Sources: KIP-618 and Kafka's configuration of a worker (`exactly.once.source.support`) for exactly once; Debezium 3.6's
pages of its PostgreSQL connector, of the outbox event router and of exactly-once delivery for the rest. Where a default
costs the connector time, the setting is the better one; each says so.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import httpx

from benchmarks.references.kafka_connect.pins import PINS
from local_stack.cache import cache_folder
from local_stack.kafka.broker import JVM_OPTIONS, JVM_VARIABLES, java
from local_stack.kafka.jars import fetch_jars, jar_folder, pinned_jars
from local_stack.ports import LOCALHOST, free_port
from local_stack.postgres.server import ServerAddress
from local_stack.processes.child import Child
from local_stack.processes.http_process import answers_ready

CONNECTOR: Final = "outbox"
TABLE: Final = "connect_outbox"
#: Both of the slot and of the publication in the source database.
SLOT: Final = "connect"
REQUEST_SECONDS: Final = 30.0

# The heap is the broker's, with the serial collector: less memory and less CPU on two cores than what Kafka's own
# connect-distributed.sh sets (2 GB and G1).
_MAIN: Final = "org.apache.kafka.connect.cli.ConnectDistributed"
_WORKER: Final = """\
bootstrap.servers={servers}
listeners=http://{host}:{port}
group.id=connect
exactly.once.source.support=enabled
# All plugins are on the class path and name themselves there.
plugin.discovery=service_load
topic.creation.enable=false
config.storage.topic=connect-configs
offset.storage.topic=connect-offsets
status.storage.topic=connect-status
config.storage.replication.factor=1
offset.storage.replication.factor=1
status.storage.replication.factor=1
# For few connectors; the defaults of 25 and 5 only cost time at each start.
offset.storage.partitions=1
status.storage.partitions=1
key.converter=org.apache.kafka.connect.storage.StringConverter
header.converter=org.apache.kafka.connect.storage.StringConverter
# As the outbox event router's page has it for payloads that are bytes already.
value.converter=org.apache.kafka.connect.converters.ByteArrayConverter
# A killed worker is missed after 6 s and its tasks go on at once; the defaults of 10 s and 5 min suit many workers.
session.timeout.ms=6000
heartbeat.interval.ms=2000
scheduled.rebalance.max.delay.ms=0
"""


class ConnectWorker(Child):
    """One worker; it keeps everything in Kafka, so a new start goes on where the last one ended."""

    death_signal = signal.SIGKILL
    ready_within = 120.0

    def __init__(self, folder: Path, bootstrap_servers: str) -> None:
        super().__init__("connect", folder / "connect.log")
        self.port = free_port()
        self._folder = folder
        self._bootstrap_servers = bootstrap_servers
        self._class_path: list[Path] = []

    async def prepare(self) -> None:
        """Fetch the jars where they are missing, and write the configuration.

        Raises:
            DownloadError: a jar cannot be had.
        """
        own = pinned_jars(PINS)
        self._class_path = [
            *await fetch_jars(pinned_jars(), jar_folder()),
            *await fetch_jars(own, cache_folder() / "kafka-connect"),
        ]
        self._folder.mkdir(parents=True, exist_ok=True)
        text = _WORKER.format(servers=self._bootstrap_servers, host=LOCALHOST, port=self.port)
        (self._folder / "worker.properties").write_text(text, encoding="ascii")

    def command(self) -> list[str]:
        """Return the JVM with the worker's main class; the class path is in the environment."""
        return [str(java()), *JVM_OPTIONS, _MAIN, "worker.properties"]

    def environment(self) -> Mapping[str, str]:
        """Return ours with the class path and without what steers a JVM."""
        kept = {name: value for name, value in os.environ.items() if name not in JVM_VARIABLES}
        return {**kept, "CLASSPATH": os.pathsep.join(map(str, self._class_path))}

    def working_folder(self) -> Path:
        """Return the folder of its configuration."""
        return self._folder

    async def is_ready(self) -> bool:
        """Tell whether its REST interface answers."""
        return await answers_ready(self.port, "/connectors")

    async def publish(self, source: ServerAddress, database: str, topic: str, headers: Sequence[str]) -> None:
        """Have it publish the rows of TABLE to a topic, keyed by `aggregateid`; each header is a column of its name."""
        settings = connector(source, database, topic, headers)
        async with httpx.AsyncClient(trust_env=False, timeout=REQUEST_SECONDS) as client:
            answer = await client.put(
                f"http://{LOCALHOST}:{self.port}/connectors/{CONNECTOR}/config", json=dict(settings)
            )
            answer.raise_for_status()


def connector(source: ServerAddress, database: str, topic: str, headers: Sequence[str]) -> Mapping[str, str]:
    """Return the connector's configuration. It finds slot and publication made; nothing is left from before them."""
    placed = [f"{column(name)}:header:{name}" for name in headers]
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": source.host,
        "database.port": str(source.port),
        "database.user": source.user,
        "database.password": source.password,
        "database.dbname": database,
        "topic.prefix": CONNECTOR,
        "table.include.list": f"public.{TABLE}",
        "plugin.name": "pgoutput",
        "slot.name": SLOT,
        "publication.name": SLOT,
        "publication.autocreate.mode": "disabled",
        "snapshot.mode": "no_data",
        "exactly.once.support": "required",
        # One transaction a batch, which is seen soonest; by interval (100 ms) it drains no faster and is seen later.
        "transaction.boundary": "poll",
        # Apart from other connectors' offsets: on the shared topic some restarts after a kill stalled for a minute.
        "offsets.storage.topic": f"connect-offsets-{CONNECTOR}",
        # The default of 500 ms is what an event waits where there is little to do.
        "poll.interval.ms": "1",
        # Four times the defaults: larger batches, fewer transactions.
        "max.batch.size": "8192",
        "max.queue.size": "32768",
        # As our relay: no waiting for company, large batches, lz4.
        "producer.override.linger.ms": "0",
        "producer.override.batch.size": "262144",
        "producer.override.compression.type": "lz4",
        "transforms": "outbox",
        "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
        "transforms.outbox.route.topic.replacement": topic,
        "transforms.outbox.table.fields.additional.placement": ",".join(placed),
    }


def column(header: str) -> str:
    """Return the column of a header; the router's list of placements takes no hyphens."""
    return header.replace("-", "_")
