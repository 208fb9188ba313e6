"""Each of three brokers is killed, frozen and restarted under a relay that publishes: `make failover`.

Nothing is lost, repeated or out of order, and the relay goes on while one broker is away.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.kafka.client import admin, ensure_topics
from chassis.lifecycle import wait_for_event
from chassis.postgres.database import Connection, session
from chassis.settings import Kafka, PostgresAddress, Topics
from local_stack.kafka.cluster import ClusterBroker, KafkaCluster
from local_stack.ports import free_ports
from outbox.settings import RelaySettings
from outbox.topics import wanted_topics
from tests.databases import prepare_command
from tests.integration.outbox.relaying import relaying, settings_for, until_phase
from tests.integration.outbox.traffic import Comparison, append_many, consume
from tests.servers.private_servers import private_postgres
from tests.waiting import until

#: A new leader is there after the session of the old one, 6 s, and a client asks who leads.
AWAY_SECONDS = 60.0
#: A broker that comes back fetches what it missed.
WHOLE_SECONDS = 60.0
#: Users of two events each, and how often.
BATCH = 10
PAUSE_SECONDS = 0.05
#: How often the leader of a partition is killed, and how often frozen.
PURSUITS = 3

Move = Callable[[ClusterBroker], Awaitable[None]]
Fault = tuple[Move, Move]


class Traffic:
    """Events that are appended all the while, and what of them must be on the topic."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.wanted: dict[str, int] = {}
        self.lock = asyncio.Lock()

    async def flow(self, stopping: asyncio.Event) -> None:
        """Append a few events at a time."""
        while not await wait_for_event(stopping, PAUSE_SECONDS):
            users: list[UUID] = [uuid4() for _ in range(BATCH)]
            async with self.lock:
                await append_many(self.connection, users, 2)
                self.wanted |= {str(user): 2 for user in users}

    async def is_published(self, user: UUID) -> bool:
        """Whether this user's events have left the outbox."""
        async with self.lock:
            return not await self.connection.fetchval("SELECT EXISTS (SELECT FROM outbox WHERE subject_id = $1)", user)

    async def one(self) -> UUID:
        """A user of now."""
        user = uuid4()
        async with self.lock:
            await append_many(self.connection, [user], 1)
            self.wanted[str(user)] = 1
        return user


@dataclass(frozen=True, slots=True)
class Scene:
    """A relay that publishes to a cluster, and what it was given."""

    cluster: KafkaCluster
    settings: RelaySettings
    traffic: Traffic

    async def leader(self) -> ClusterBroker:
        """Who leads the first partition of the events."""
        async with admin(self.settings) as client:
            [topic] = await client.describe_topics([self.settings.events_topic])
        return self.cluster.broker(next(each["leader"] for each in topic["partitions"] if each["partition"] == 0))

    async def without(self, broker: ClusterBroker, fault: Fault) -> None:
        """Take a broker away, have the relay go on without it, and give it back."""
        away, back = fault
        await away(broker)
        await goes_on(self.traffic, f"publishing without broker {broker.node}")
        await back(broker)
        await until(partial(is_whole, self.settings), within=WHOLE_SECONDS, what="every copy to be there")


@asynccontextmanager
async def working(folder: Path) -> AsyncIterator[Scene]:
    """Afterwards all that was appended is on the topic, once, and in its order."""
    async with KafkaCluster(folder, free_ports(3)) as cluster, private_postgres(prepare_command) as (_, database):
        settings = await settings_on(cluster, database)
        async with session(database, application="test") as connection:
            traffic = Traffic(connection)
            async with relaying(settings) as relay, flowing(traffic):
                await until_phase(relay, "leading")
                await until(partial(is_whole, settings), within=WHOLE_SECONDS, what="every copy to be there")
                yield Scene(cluster, settings, traffic)
        published = await consume(settings)

    assert Comparison.of(published.versions(), traffic.wanted) == Comparison(lost=0, repeated=0, inverted=0)


async def freeze(broker: ClusterBroker) -> None:
    broker.pause()


async def thaw(broker: ClusterBroker) -> None:
    broker.resume()


#: How a broker is taken away, and how it comes back.
KILLED: Fault = (ClusterBroker.kill, ClusterBroker.start)
FROZEN: Fault = (freeze, thaw)
ROLLED: Fault = (ClusterBroker.stop, ClusterBroker.start)


@pytest.mark.parametrize("fault", [KILLED, FROZEN, ROLLED], ids=["killed", "frozen", "rolled"])
async def test_any_broker_may_go_and_nothing_is_lost(tmp_path: Path, fault: Fault) -> None:
    async with working(tmp_path) as scene:
        for broker in scene.cluster.brokers:
            await scene.without(broker, fault)


async def test_whoever_leads_a_partition_may_go_again_and_again(tmp_path: Path) -> None:
    async with working(tmp_path) as scene:
        for fault in (KILLED, FROZEN) * PURSUITS:
            await scene.without(await scene.leader(), fault)


async def is_whole(settings: RelaySettings) -> bool:
    """Whether each of three brokers has all of every topic, so that any of them may be lost again."""
    async with admin(settings) as client:
        topics = await client.describe_topics()
    return all(len(each["isr"]) == len(each["replicas"]) for topic in topics for each in topic["partitions"])


async def settings_on(cluster: KafkaCluster, database: PostgresAddress) -> RelaySettings:
    """A relay's, for topics of which two brokers of three must have each record."""
    kafka = Kafka.model_construct(kafka_bootstrap_servers=cluster.bootstrap_servers)
    values: dict[str, Any] = {"TOPIC_REPLICATION_FACTOR": 3, "TOPIC_MIN_INSYNC_REPLICAS": 2, "TOPIC_PARTITIONS": 6}
    topics = Topics(_env_file=None, **values)
    async with admin(kafka) as client:
        await ensure_topics(client, wanted_topics(topics))
    return settings_for(database, kafka, topics, relay_name="three-brokers", relay_transaction_timeout_ms=2000)


async def goes_on(traffic: Traffic, what: str) -> None:
    user = await traffic.one()
    await until(lambda: traffic.is_published(user), within=AWAY_SECONDS, what=what)


@asynccontextmanager
async def flowing(traffic: Traffic) -> AsyncIterator[None]:
    stopping = asyncio.Event()
    task = asyncio.create_task(traffic.flow(stopping))
    try:
        yield
        await goes_on(traffic, "all to be published")
    finally:
        stopping.set()
        await task
    await goes_on(traffic, "the last to be published")
