"""How fast a projection is rebuilt from the topic, beside raw consumption of the same topic and COPY of the same rows.

A quarter of the users changed once more after they registered. Everything shares the machine.
"""

import asyncio
import random
import resource
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.structs import TopicPartition
from sqlalchemy.dialects.postgresql import dialect
from sqlalchemy.schema import CreateTable

from benchmarks.figures import Figure
from benchmarks.plan import Plan
from benchmarks.population import user_id
from benchmarks.result import Result
from benchmarks.rounds import Probe, Sample, interleave
from benchmarks.servers import Servers, open_servers
from chassis.database import Database, connect
from chassis.identifiers import new_id
from chassis.kafka import client_arguments
from chassis.settings import PostgresAddress
from events.catalogue import ChangeEvent, encode, event_type
from events.envelope import Envelope
from events.user_events import PublicUser, UserProfileChanged, UserRegistered
from projectors.app import spare_the_collector
from projectors.catalogue import PROJECTIONS
from projectors.rebuild import Rebuild, Stage, end_positions
from projectors.settings import ProjectorSettings
from read_model import generations

#: A rebuild of a million takes as long as the whole budget; five rounds need a fifth of them.
USERS: Final = 50_000
TRANSACTION_RECORDS: Final = 2000
COPY_SECONDS: Final = 300


async def run(plan: Plan) -> Result:
    """Consume, rebuild, copy."""
    result = Result("Projections")
    spare_the_collector()
    users = min(plan.users, USERS)
    async with open_servers(plan) as servers:
        plan.say(f"publishing {users:,} users")
        events = await publish(servers, users)
        result.fact("Topic", f"{events:,} events of {users:,} users")
        settings = servers.settings(ProjectorSettings)

        async def consumption() -> Sample:
            return Sample(events / await consume(settings))

        probes: dict[str, Probe] = {"raw aiokafka consumption": consumption}
        for name in sorted(PROJECTIONS):
            probes[f"rebuild of {name}"] = _rebuilding(servers, name, events)
        rounds = await interleave(plan, probes, unit="events/s")
        result.table(rounds)
        for name in sorted(PROJECTIONS):
            result.measured(f"COPY of the rows of {name}", rounds.part(f"rebuild of {name}", "copy"), "rows/s")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    result.measured("greatest memory of the rebuilding process", Figure.once(memory / 1e6), "MB")
    ratio = rounds.ratio("rebuild of users", "raw aiokafka consumption")
    result.claim("rebuild of users / raw consumption", ratio, at_least=0.2)
    return result


def _rebuilding(servers: Servers, name: str, events: int) -> Probe:
    async def probe() -> Sample:
        fresh = await servers.new_database("query")
        async with Database.open(fresh.query, application="benchmark") as database:
            rate = events / await rebuild(fresh.settings(ProjectorSettings), database, name)
        rows, seconds = await copy(fresh.query, name)
        return Sample(rate, {"copy": rows / seconds})

    return probe


def stream(users: int) -> Iterator[ChangeEvent]:
    """Registrations, and a change of every fourth user."""
    rng, now = random.Random(1), datetime.now(UTC)
    for number in range(1, users + 1):
        user = PublicUser(
            id=user_id(number), email=f"user{number}@example.com", username=f"User-{number}", email_verified=False,
            display_name=None, attributes={}, is_active=True, status="active", version=1, created_at=now,
            updated_at=now,
        )  # fmt: skip
        yield UserRegistered(user=user)
        if rng.random() < 0.25:
            after = user.model_copy(update={"version": 2, "display_name": f"User number {number}"})
            yield UserProfileChanged(user=after, previous={"display_name": None})


async def publish(servers: Servers, users: int) -> int:
    """Fill the topic; gives the number of events."""
    settings, count = servers.settings(ProjectorSettings), 0
    producer = AIOKafkaProducer(
        **client_arguments(settings), transactional_id="benchmark", compression_type="lz4", max_batch_size=512 * 1024
    )
    await producer.start()
    try:
        portion: list[ChangeEvent] = []
        for event in stream(users):
            portion.append(event)
            if len(portion) == TRANSACTION_RECORDS:
                await _send(producer, settings.events_topic, portion)
                count, portion = count + len(portion), []
        if portion:
            await _send(producer, settings.events_topic, portion)
        return count + len(portion)
    finally:
        await producer.stop()


async def _send(producer: AIOKafkaProducer, topic: str, events: list[ChangeEvent]) -> None:
    async with producer.transaction():
        futures = []
        for event in events:
            user = event.user
            envelope = Envelope(
                event_id=new_id(), type=event_type(event), user_id=user.id, version=user.version,
                time=user.updated_at, correlation_id="benchmark", causation_id="benchmark",
            )  # fmt: skip
            key, value = str(user.id).encode(), encode(event)
            futures.append(await producer.send(topic, value, key=key, headers=envelope.headers()))
        await asyncio.gather(*futures)


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
            everything = f"SELECT * FROM {table.name}"  # noqa: S608 - our own name
            records = [tuple(row) for row in await connection.fetch(everything)]
            began = time.perf_counter()
            await connection.copy_records_to_table(twin.name, records=records, timeout=COPY_SECONDS)
            seconds += time.perf_counter() - began
            rows += len(records)
        return rows, seconds
    finally:
        await connection.close()
