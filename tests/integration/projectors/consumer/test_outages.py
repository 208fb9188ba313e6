"""Servers that die, hang or are not there yet."""

import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from chassis.postgres.database import Database, session
from chassis.settings import Kafka
from chassis.telemetry import Repeats
from events.user_events import UserRegistered
from local_stack.kafka.broker import KafkaServer
from local_stack.ports import free_port
from local_stack.postgres.server import PostgresServer
from projectors.app import serve
from projectors.consumer import loop
from projectors.operations import parked
from projectors.projections.catalogue import PROJECTIONS
from projectors.settings import ProjectorSettings
from tests.conftest import address_on, make_topics
from tests.databases import prepare_query
from tests.integration.projectors.conftest import make_settings, running
from tests.integration.projectors.equality import positions, tables_equal_the_fold
from tests.integration.projectors.stream import Publisher, lives, new_user, record
from tests.servers.private_servers import PrivateServers, make_database, private_servers
from tests.waiting import until

# The servers are children of the loop that started them.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Private:
    """Servers of this test's own, and settings for them."""

    postgres: PostgresServer
    kafka: KafkaServer
    settings: ProjectorSettings

    async def register(self, count: int) -> None:
        """Publish so many registrations."""
        brokers = Kafka.model_construct(kafka_bootstrap_servers=self.kafka.bootstrap_servers)
        async with Publisher.open(brokers, self.settings.events_topic) as publisher:
            await publisher.publish([record(UserRegistered(user=new_user(number))) for number in range(count)])

    async def users(self) -> int:
        """How many rows there are."""
        async with self.database() as database, database.connection() as connection:
            return int(await connection.fetchval("SELECT count(*) FROM users_g1"))

    async def users_reach(self, count: int, *, within: float) -> None:
        """Wait for so many rows, and for nothing to be parked."""

        async def there() -> bool:
            return await self.users() == count

        await until(there, within=within, what=f"{count} users")
        async with self.database() as database:
            assert await parked.summaries(database) == []

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """The query database."""
        async with Database.open(self.settings.query_database, application="tests") as database:
            yield database

    async def probe(self, path: str) -> tuple[int, str]:
        """What a health route answers."""
        async with httpx.AsyncClient() as client:
            try:
                answer = await client.get(f"http://127.0.0.1:{self.settings.projectors_http_port}{path}", timeout=5)
            except httpx.TransportError:
                return 0, "no answer"
        return answer.status_code, answer.text

    async def is_ready(self) -> bool:
        """Whether /readyz says so."""
        return (await self.probe("/readyz"))[0] == 200


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def servers_to_kill() -> AsyncIterator[PrivateServers]:
    """Those of all tests of this file."""
    async with private_servers() as servers:
        yield servers


@pytest_asyncio.fixture(loop_scope="module")
async def private(servers_to_kill: PrivateServers) -> Private:
    """Both running, with a database and topics of this test's own."""
    await servers_to_kill.start()
    address = await make_database(servers_to_kill.postgres, prepare_query)
    topics = await make_topics(servers_to_kill.brokers, partitions=3)
    settings = make_settings(servers_to_kill.brokers, topics, address, projectors_http_port=free_port())
    return Private(servers_to_kill.postgres, servers_to_kill.kafka, settings)


async def test_starts_while_both_servers_are_down_and_is_ready_once_they_are_up(private: Private) -> None:
    await private.register(3)
    await private.kafka.stop()
    await private.postgres.stop()
    async with running(partial(serve, private.settings)):
        await until(lambda: answered(private), within=10, what="the health port")
        status, text = await private.probe("/readyz")
        assert status == 503, text
        assert (await private.probe("/livez"))[0] == 200
        await private.postgres.start()
        await private.kafka.start()
        await until(private.is_ready, within=30, what="readiness")
        await private.users_reach(3, within=10)


async def test_a_broker_that_is_killed_and_comes_back_costs_delay_and_a_line_an_outage_only(
    private: Private, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "BROKER_SILENCE_SECONDS", 5.0)
    heard = Heard()
    heard.addFilter(Repeats())
    logging.getLogger().addHandler(heard)
    try:
        with capture_logs() as lines:
            async with running(partial(serve, private.settings)):
                await private.register(5)
                await private.users_reach(5, within=30)
                await private.kafka.kill()
                await until(lambda: told(lines, "feed.kafka_unavailable"), within=30, what="the outage is told")
                await private.kafka.start()
                await private.register(7)
                await private.users_reach(12, within=60)
    finally:
        logging.getLogger().removeHandler(heard)
    outages = [line["projection"] for line in lines if line["event"] == "feed.kafka_unavailable"]
    assert sorted(outages) == sorted(set(outages))
    assert len(heard.places) == len(set(heard.places)) > 0


class Heard(logging.Handler):
    """Where in its code a library has logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.places: list[tuple[str, int]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("aiokafka"):
            self.places.append((record.pathname, record.lineno))


async def told(lines: Sequence[Mapping[str, Any]], event: str) -> bool:
    return any(line["event"] == event for line in lines)


async def test_postgresql_that_is_killed_and_recovers_costs_delay_and_two_lines_only(private: Private) -> None:
    with capture_logs() as lines:
        async with running(partial(serve, private.settings, projections=["users"])):
            await private.register(5)
            await private.users_reach(5, within=30)
            await private.postgres.kill()
            await private.register(7)
            await until(lambda: retried(private, 5), within=30, what="several tries")
            await private.postgres.start()
            await private.users_reach(12, within=60)
    events = [line["event"] for line in lines if line["event"].startswith("feed.database_")]
    assert events == ["feed.database_unavailable", "feed.database_available"]


async def test_servers_killed_while_everything_is_read_leave_tables_equal_to_the_fold(
    private: Private,
) -> None:
    # So few that neither server's death comes after the end: what a consumer has fetched is written without the broker.
    small = private.settings.model_copy(update={"projectors_batch_records": 2})
    stream = lives(300, 6000, seed=25)
    brokers = Kafka.model_construct(kafka_bootstrap_servers=private.kafka.bootstrap_servers)
    async with Publisher.open(brokers, small.events_topic) as publisher:
        for start in range(0, len(stream), 500):
            await publisher.publish(stream[start : start + 500])

    async def have_read(count: int) -> bool:
        async with private.database() as database:
            found = await positions(database)
        assert found < len(stream) * len(PROJECTIONS), "it is over before anything has happened"
        return found > count

    async with running(partial(serve, small)):
        await until(lambda: have_read(1000), within=60, what="everybody to read")
        await private.kafka.kill()
        await private.kafka.start()
        await until(lambda: have_read(6000), within=60, what="everybody to read on")
        await private.postgres.kill()
        await private.postgres.start()
        async with private.database() as database:
            await tables_equal_the_fold(small, database, stream)


async def test_what_postgresql_loses_in_a_crash_is_read_from_the_topic_again(private: Private) -> None:
    async with session(address_on(private.postgres.address, "postgres"), application="tests") as connection:
        # The log is not written by itself any more: what is committed from now on is lost.
        await connection.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        await connection.execute("ALTER SYSTEM SET wal_writer_flush_after = '1GB'")
        await connection.execute("SELECT pg_reload_conf()")
    with capture_logs() as lines:
        async with running(partial(serve, private.settings, projections=["users"])):
            for count in (5, 10):
                await private.register(5)
                await private.users_reach(count, within=30)
            await private.postgres.kill()
            await private.register(2)
            await private.postgres.start()
            await private.users_reach(12, within=60)
    assert "feed.placed_anew" in [line["event"] for line in lines]


async def test_a_broker_that_hangs_makes_a_new_consumer_and_goes_on_when_it_wakes(
    private: Private, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "BROKER_SILENCE_SECONDS", 2.0)
    async with running(partial(serve, private.settings, projections=["users"])):
        await private.register(5)
        await private.users_reach(5, within=30)
        private.kafka.pause()
        try:
            await until(lambda: restarted(private), within=60, what="the consumer to be discarded")
        finally:
            private.kafka.resume()
        await private.register(7)
        await private.users_reach(12, within=90)


async def answered(private: Private) -> bool:
    return (await private.probe("/health"))[0] == 200


async def retried(private: Private, times: int) -> bool:
    _, text = await private.probe("/metrics")
    lines = [line for line in text.splitlines() if line.startswith("muster_projector_retries_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines) >= times


async def restarted(private: Private) -> bool:
    _, text = await private.probe("/metrics")
    lines = [line for line in text.splitlines() if line.startswith("muster_projector_consumer_restarts_total")]
    return any(float(line.rpartition(" ")[2]) > 0 for line in lines if 'projection="users"' in line)
