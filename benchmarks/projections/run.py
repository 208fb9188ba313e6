"""How fast a projection is rebuilt from the topic, beside raw consumption of the same topic and COPY of the same rows.

Also how long a rebuild of a million users takes and what it keeps in memory, and how many rows a second delivery of a
whole topic writes. A quarter of the users changed once more after they registered. Everything shares the machine.
"""

import asyncio
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from aiokafka import AIOKafkaProducer
from sqlalchemy.dialects.postgresql import dialect
from sqlalchemy.schema import CreateTable

from benchmarks.population import user_id
from benchmarks.projections.memory import measure_memory
from benchmarks.references.kafka.consumer import consume
from benchmarks.reporting.figures import Figure, number, quotient
from benchmarks.reporting.result import Result
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Probe, Sample, interleave
from benchmarks.running.servers import Servers, open_servers
from chassis.identifiers import new_id
from chassis.kafka.client import client_arguments
from chassis.lifecycle import freeze_loaded_objects
from chassis.postgres.database import Database, connect
from chassis.settings import PostgresAddress
from events.envelope import Envelope
from events.user_events import USER_EVENTS, ChangeEvent, PublicUser, UserProfileChanged, UserRegistered
from projectors.app import YOUNG_OBJECTS, open_database
from projectors.operations.rebuild import Rebuild, Stage
from projectors.projections.catalogue import PROJECTIONS
from projectors.settings import ProjectorSettings
from read_model import generations

#: A rebuild of a million takes a quarter of the whole budget; five rounds and a warm-up need a tenth of them. Fewer
#: would measure how long a consumer takes to join its group.
USERS: Final = 100_000
TRANSACTION_RECORDS: Final = 2000
COPY_SECONDS: Final = 300
#: One consumption takes a third of a second, too short for a steady figure.
PASSES: Final = 5


async def run(plan: Plan) -> Result:
    """Measure consumption, rebuild and COPY, then redelivery, then the memory of a million."""
    result = Result("Projections")
    result.note("Raw consumption is aiokafka alone, getmany(max_records=1000), read_committed, one process.")
    result.note(
        "A rebuild begins with joining the group and ends with indexes made, carry-over done and all caught up."
    )
    freeze_loaded_objects(YOUNG_OBJECTS)
    users = min(plan.users, USERS)
    async with open_servers(plan) as servers:
        plan.say(f"publishing {users:,} users")
        events = await publish(servers, users)
        result.fact("Topic", f"{events:,} events of {users:,} users")
        await _rebuilds(plan, servers, result, events)
        await _delivered_again(servers, result, events)
        await measure_memory(plan, servers, result)
    return result


async def _rebuilds(plan: Plan, servers: Servers, result: Result, events: int) -> None:
    settings = servers.settings(ProjectorSettings)

    async def consumption() -> Sample:
        return await consume(settings, settings.events_topic, records=events, passes=1 if plan.quick else PASSES)

    rounds = await interleave(
        plan,
        {"raw aiokafka consumption": consumption, "rebuild of users": _rebuilding(servers, "users", events)},
        unit="events/s",
    )
    result.table(rounds)
    result.measured("COPY of the rows of users", rounds.part("rebuild of users", "copy"), "rows/s")
    result.measured("CPU of raw consumption", rounds.part("raw aiokafka consumption", "cpu"), "µs an event")
    raw, copied = rounds["raw aiokafka consumption"].median, rounds.part("rebuild of users", "copy").median
    result.claim(
        "rebuild of users / raw consumption",
        rounds.ratio("rebuild of users", "raw aiokafka consumption"),
        at_least=0.25,
        reason=f"at {number(raw)} events/s a quarter leaves {number(quotient(4e6, raw))} µs for an event, of which"
        f" PostgreSQL needs {number(quotient(1e6, copied))} for a row by COPY alone; the rest decodes and makes it",
    )
    others: dict[str, Probe] = {
        f"rebuild of {name}": _rebuilding(servers, name, events) for name in sorted(PROJECTIONS) if name != "users"
    }
    result.table(await interleave(plan, others, unit="events/s", warm_up=False, rounds=1))


async def _delivered_again(servers: Servers, result: Result, events: int) -> None:
    """Rewind an up-to-date generation to position 0, and count the rows that all of the topic then writes."""
    fresh = await servers.new_database("query")
    settings = fresh.settings(ProjectorSettings)
    async with open_database(fresh.query, application="benchmark") as database, fresh.session("query") as connection:
        await rebuild(settings, database, "users")
        await connection.execute("UPDATE checkpoints SET position = 0 WHERE projection = 'users' AND generation = 2")
        newest = await connection.fetchval("SELECT pg_current_xact_id()::text::bigint")
        before = await connection.fetchval("SELECT count(*) FROM users_g2")
        began = time.perf_counter()
        await rebuild(settings, database, "users")
        rate = events / (time.perf_counter() - began)
        written = "SELECT count(*) FROM users_g2 WHERE xmin::text::bigint >= $1 OR xmax::text::bigint >= $1"
        rows = await connection.fetchval(written, newest)
        rows += abs(before - await connection.fetchval("SELECT count(*) FROM users_g2"))
    result.measured("all of it delivered again", Figure((rate,)), "events/s", "once")
    result.claim("rows written by a second delivery of the topic", Figure.once(float(rows)), at_most=0, unit="rows")


def _rebuilding(servers: Servers, name: str, events: int) -> Probe:
    async def probe() -> Sample:
        fresh = await servers.new_database("query")
        async with open_database(fresh.query, application="benchmark") as database:
            rate = events / await rebuild(fresh.settings(ProjectorSettings), database, name)
        rows, seconds = await copy(fresh.query, name)
        await _forget(servers, fresh)
        return Sample(rate, {"copy": rows / seconds})

    return probe


async def _forget(servers: Servers, made: Servers) -> None:
    """Vacuum and checkpoint, so that PostgreSQL does neither during the reference's turn."""
    async with servers.session("command") as connection:
        await connection.execute(f"DROP DATABASE {made.databases['query']} WITH (FORCE)")
        await connection.execute("CHECKPOINT", timeout=COPY_SECONDS)


def stream(users: int) -> Iterator[ChangeEvent]:
    """Return registrations, and a change of every fourth user."""
    rng, now = random.Random(1), datetime.now(UTC)
    for one in range(1, users + 1):
        user = PublicUser(
            id=user_id(one), email=f"user{one}@example.com", username=f"User-{one}", email_verified=False,
            display_name=None, attributes={}, is_active=True, status="active", version=1, created_at=now,
            updated_at=now,
        )  # fmt: skip
        yield UserRegistered(user=user)
        if rng.random() < 0.25:
            after = user.model_copy(update={"version": 2, "display_name": f"User number {one}"})
            yield UserProfileChanged(user=after, previous={"display_name": None})


async def publish(servers: Servers, users: int) -> int:
    """Fill the topic; return the number of events."""
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
                event_id=new_id(), source=USER_EVENTS.source, type=USER_EVENTS.event_type(event),
                subject_id=user.id, version=user.version,
                time=user.updated_at, correlation_id="benchmark", causation_id="benchmark",
            )  # fmt: skip
            key, value = str(user.id).encode(), USER_EVENTS.encode(event)
            futures.append(await producer.send(topic, value, key=key, headers=envelope.headers()))
        await asyncio.gather(*futures)


async def rebuild(settings: ProjectorSettings, database: Database, name: str) -> float:
    """Return the seconds until the new generation has caught up."""
    began = time.perf_counter()
    work = Rebuild(settings, database, name, asyncio.Event(), lambda _: None)
    assert await work.run(pause_before_switch=True) is Stage.READY
    return time.perf_counter() - began


async def copy(address: PostgresAddress, name: str) -> tuple[int, float]:
    """Return the rows, and the seconds that COPY takes to write them into tables of the same definition."""
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
