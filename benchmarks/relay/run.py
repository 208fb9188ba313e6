"""How fast the relay drains a backlog, beside raw `send()` of the same records from memory.

The relay reads 50,000 events of about 350 bytes from PostgreSQL, publishes them exactly once and deletes them. The
reference sends the same keys, headers and values with aiokafka's `send()`, idempotent and without transactions or any
database. Both run alone on the same servers.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaProducer

from benchmarks.plan import Plan
from benchmarks.result import Result
from benchmarks.rounds import Probe, Sample, interleave
from benchmarks.servers import open_servers
from chassis.identifiers import new_id
from chassis.kafka import client_arguments
from events.envelope import Envelope
from outbox.relay import Relay
from outbox.settings import RelaySettings

VALUE: Final = b'{"user":{"id":"0199d0c8-7d5c-7c5e-8a3f-0123456789ab"},"padding":"' + b"x" * 280 + b'"}'
EVENTS: Final = 50_000
QUICK_EVENTS: Final = 2_000
USERS: Final = 5_000
COLUMNS: Final = (
    "event_id", "user_id", "version", "type", "time", "correlation_id", "causation_id", "traceparent", "value",
)  # fmt: skip


async def run(plan: Plan) -> Result:
    """Drain and send the same events in turns."""
    result = Result("Relay")
    made = envelopes(QUICK_EVENTS if plan.quick else EVENTS)
    result.fact("Backlog", f"{len(made):,} events of {len(VALUE)} bytes")
    async with open_servers(plan) as servers, servers.session("command") as connection:
        settings = servers.settings(RelaySettings)
        probes: dict[str, Probe] = {
            "send()": _probe(send, settings, connection, made),
            "relay": _probe(drain, settings, connection, made),
        }
        rounds = await interleave(plan, probes, unit="events/s")
    result.table(rounds)
    result.measured("relay, CPU per event", rounds.part("relay", "cpu"), "ms")
    result.claim("drain / send()", rounds.ratio("relay", "send()"), at_least=1.3)
    return result


Subject = Callable[[RelaySettings, asyncpg.Connection, list[Envelope]], Awaitable[tuple[float, float]]]


def _probe(subject: Subject, settings: RelaySettings, connection: asyncpg.Connection, events: list[Envelope]) -> Probe:
    async def probe() -> Sample:
        seconds, cpu = await subject(settings, connection, events)
        return Sample(len(events) / seconds, {"cpu": cpu / len(events) * 1000})

    return probe


def envelopes(events: int) -> list[Envelope]:
    """The events, in the order in which they are appended."""
    users: list[UUID] = [new_id() for _ in range(USERS)]
    now = datetime.now(UTC)
    return [
        Envelope(
            event_id=new_id(),
            type="muster.user.profile_changed.v1",
            user_id=users[number % USERS],
            version=number // USERS + 1,
            time=now,
            correlation_id="benchmark",
            causation_id="benchmark",
        )
        for number in range(events)
    ]


async def fill(connection: asyncpg.Connection, events: list[Envelope]) -> None:
    """Append the backlog."""
    rows = [
        (e.event_id, e.user_id, e.version, e.type, e.time, e.correlation_id, e.causation_id, None, VALUE)
        for e in events
    ]
    await connection.copy_records_to_table("outbox", records=rows, columns=COLUMNS)
    await connection.execute("ANALYZE outbox")
    await connection.execute("CHECKPOINT")


async def drain(settings: RelaySettings, connection: asyncpg.Connection, events: list[Envelope]) -> tuple[float, float]:
    """Let the relay publish the backlog; gives seconds and CPU seconds, its start not counted."""
    began = asyncio.Event()

    async def note(point: str) -> None:
        if point == "before_begin":
            began.set()

    await fill(connection, events)
    relay, stopping = Relay(settings, reached=note), asyncio.Event()
    task = asyncio.create_task(relay.run(stopping))
    await began.wait()
    start, cpu = time.perf_counter(), time.process_time()
    while await connection.fetchval("SELECT EXISTS (SELECT FROM outbox)"):
        await asyncio.sleep(0.01)
    seconds, used = time.perf_counter() - start, time.process_time() - cpu
    stopping.set()
    await task
    return seconds, used


async def send(settings: RelaySettings, _: asyncpg.Connection, events: list[Envelope]) -> tuple[float, float]:
    """Send the same records from memory."""
    producer = AIOKafkaProducer(
        **client_arguments(settings), enable_idempotence=True, compression_type="lz4", max_batch_size=512 * 1024
    )
    await producer.start()
    try:
        records = [(str(e.user_id).encode(), e.headers()) for e in events]
        start, cpu = time.perf_counter(), time.process_time()
        futures = [
            await producer.send(settings.events_topic, VALUE, key=key, headers=headers) for key, headers in records
        ]
        await asyncio.gather(*futures)
        return time.perf_counter() - start, time.process_time() - cpu
    finally:
        await producer.stop()
