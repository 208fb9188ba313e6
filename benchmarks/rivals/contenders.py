"""The two relays: `muster relay`, and Kafka Connect with Debezium, each with a database and a topic of its own.

Both run from the first measurement to the last, so the one at rest costs the other next to nothing.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import asyncpg

from benchmarks.references.kafka_connect import outbox
from benchmarks.references.kafka_connect.worker import ConnectWorker
from benchmarks.relay.backlog import COLUMNS, envelopes, row
from benchmarks.relay.watching import arriving
from benchmarks.running.servers import Servers
from chassis.settings import Topics
from events.envelope import HEADER_NAMES, Envelope
from local_stack.processes.child import Child
from outbox.settings import RelaySettings

DATABASE: Final = "connect"
#: A worker without state has its first event on the topic within some seconds.
FIRST_SECONDS: Final = 120.0

Append = Callable[[asyncpg.Connection, Sequence[Envelope]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Contender:
    """A relay that runs; its outbox is in the command database of `servers`, its topic is their events topic.

    `append` puts events into the outbox, in the transaction that the connection has.
    """

    name: str
    servers: Servers
    process: Child
    append: Append


@asynccontextmanager
async def contending(servers: Servers) -> AsyncIterator[tuple[Contender, Contender]]:
    """Run both, ours first, on servers whose `wal_level` is logical; each has published an event when the block begins.

    Raises:
        LocalStackError: Kafka Connect cannot be had, or does not run.
    """
    apart = await _servers_of_connect(servers)
    topic = apart.settings(Topics).events_topic
    assert servers.kafka is not None
    worker = ConnectWorker(servers.plan.folder / "connect", servers.kafka.bootstrap_servers)
    async with servers.muster("relay", hot=True) as relay, worker:
        await worker.publish(servers.postgres.address, DATABASE, topic, HEADER_NAMES)
        ours = Contender("relay", servers, relay, _append)
        theirs = Contender("Kafka Connect", apart, worker, outbox.append)
        for contender in (ours, theirs):
            await _first_event(contender)
        yield ours, theirs


async def _servers_of_connect(servers: Servers) -> Servers:
    """Make its topic, like ours, and its database, whose log the other's work does not reach."""
    made = replace(await servers.new_topics(), databases={**servers.databases, "command": DATABASE})
    await servers.postgres.create_database(DATABASE)
    async with made.session("command") as connection:
        await outbox.create(connection)
    return made


async def _first_event(contender: Contender) -> None:
    async with (
        arriving(contender.servers.settings(RelaySettings)) as arrivals,
        contender.servers.session("command") as connection,
    ):
        (event,) = envelopes(1)
        await contender.append(connection, [event])
        await arrivals.wait_for({str(event.event_id)}, within=FIRST_SECONDS)


async def _append(connection: asyncpg.Connection, events: Sequence[Envelope]) -> None:
    await connection.copy_records_to_table("outbox", records=map(row, events), columns=COLUMNS)
