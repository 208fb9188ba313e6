"""How fast a projection is rebuilt from the topic, beside raw consumption of the same topic and COPY of the same rows.

Run: `python -m benchmarks.projections.rebuild [USERS] [PROJECTION…]` (200,000 users, all projections). Real servers, as
the tests find them; everything shares this machine. A quarter of the users changed once more after they registered.
"""

import asyncio
import random
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import TopicPartition
from sqlalchemy.dialects.postgresql import dialect
from sqlalchemy.schema import CreateTable

from chassis.database import Database, connect
from chassis.kafka import client_arguments
from chassis.lifecycle import new_event_loop
from chassis.settings import Kafka, PostgresAddress
from events.user_events import UserProfileChanged, UserRegistered
from projectors.app import spare_the_collector
from projectors.catalogue import PROJECTIONS
from projectors.migrate import migrate
from projectors.rebuild import Rebuild, Stage, end_positions
from projectors.settings import ProjectorSettings
from read_model import generations
from tests.conftest import database_address, drop_database, make_topics, recreate_database
from tests.infrastructure import SharedServers
from tests.integration.projectors.conftest import make_settings
from tests.integration.projectors.stream import FakeRecord, Publisher, new_user, record

DATABASE: Final = "benchmark_query"
USERS: Final = 200_000
TRANSACTION_RECORDS: Final = 2000


def stream(users: int) -> Iterator[FakeRecord]:
    """Registrations, and a change of every fourth user."""
    rng = random.Random(1)
    for number in range(users):
        user = new_user(number)
        yield record(UserRegistered(user=user))
        if rng.random() < 0.25:
            after = user.model_copy(update={"version": 2, "display_name": f"User number {number}"})
            yield record(UserProfileChanged(user=after, previous={"display_name": None}))


async def publish(kafka: Kafka, topic: str, users: int) -> int:
    """Fill the topic; gives the number of events."""
    count, portion = 0, []
    async with Publisher.open(kafka, topic) as publisher:
        for item in stream(users):
            portion.append(item)
            if len(portion) == TRANSACTION_RECORDS:
                await publisher.publish(portion)
                count, portion = count + len(portion), []
        if portion:
            await publisher.publish(portion)
    return count + len(portion)


async def consume(settings: ProjectorSettings, batch: int = 1000) -> float:
    """Seconds that aiokafka alone takes to read the topic."""
    ends = await end_positions(settings)
    consumer = AIOKafkaConsumer(
        **client_arguments(settings), isolation_level="read_committed", auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        partitions = [TopicPartition(settings.events_topic, number) for number in ends]
        consumer.assign(partitions)
        began = time.perf_counter()
        while True:
            await consumer.getmany(timeout_ms=100, max_records=batch)
            if all([await consumer.position(one) >= ends[one.partition] for one in partitions]):
                return time.perf_counter() - began
    finally:
        await consumer.stop()


async def rebuild(settings: ProjectorSettings, database: Database, name: str) -> float:
    """Seconds until the new generation has caught up."""
    began = time.perf_counter()
    work = Rebuild(settings, database, name, asyncio.Event(), lambda _: None)
    assert await work.run(pause_before_switch=True) is Stage.READY
    return time.perf_counter() - began


async def copy(address: PostgresAddress, name: str) -> tuple[int, float]:
    """Rows, and the seconds that COPY takes to write them into tables of the same definition."""
    connection = await connect(address, application="benchmark")
    try:
        rows, seconds = 0, 0.0
        built = generations.tables_of(name, 2).sorted_tables
        await connection.execute("INSERT INTO generations VALUES ($1, 3, 1, 'retired')", name)
        for table, twin in zip(built, generations.tables_of(name, 3).sorted_tables, strict=True):
            create = CreateTable(twin).compile(dialect=dialect())  # type: ignore[no-untyped-call]
            await connection.execute(str(create))
            for statement in generations.indexes_of(twin):
                await connection.execute(statement)
            records = [tuple(row) for row in await connection.fetch(f"SELECT * FROM {table.name}")]
            began = time.perf_counter()
            await connection.copy_records_to_table(twin.name, records=records, timeout=300)
            seconds += time.perf_counter() - began
            rows += len(records)
        return rows, seconds
    finally:
        await connection.close()


async def main(servers: SharedServers, users: int, names: list[str]) -> None:
    """Print one line a measurement."""
    shared = servers.servers
    kafka = Kafka.model_construct(kafka_bootstrap_servers=shared.kafka_bootstrap)
    topics = await make_topics(kafka)
    await recreate_database(shared, DATABASE, "template1")
    address = database_address(shared, DATABASE)
    try:
        await asyncio.to_thread(migrate, address)
        settings = make_settings(kafka, topics, address)
        events = await publish(kafka, topics.events_topic, users)
        print(f"{users:,} users, {events:,} events, {topics.topic_partitions} partitions, servers: {shared.kind}")
        raw = events / await consume(settings)
        print(f"raw aiokafka consumption   {raw:>9,.0f} events/s  1.00")
        async with Database.open(address, application="benchmark") as database:
            for name in names:
                rate = events / await rebuild(settings, database, name)
                memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                print(f"rebuild of {name:<15} {rate:>9,.0f} events/s  {rate / raw:.2f}   {memory:,.0f} MiB at most")
                rows, seconds = await copy(address, name)
                print(f"  COPY of its rows         {rows / seconds:>9,.0f} rows/s    ({rows:,} rows, indexes included)")
    finally:
        await drop_database(shared, DATABASE)


if __name__ == "__main__":
    spare_the_collector()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    with SharedServers() as started, suppress(KeyboardInterrupt):
        asyncio.Runner(loop_factory=new_event_loop).run(
            main(started, int(sys.argv[1]) if len(sys.argv) > 1 else USERS, sys.argv[2:] or sorted(PROJECTIONS))
        )
