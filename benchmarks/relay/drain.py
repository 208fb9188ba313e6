"""How fast the relay drains a backlog, beside raw `send()` of the same records from memory; A B A B in one run.

The relay reads 50,000 events of about 350 bytes from PostgreSQL, publishes them exactly once and deletes them. The
reference sends the same keys, headers and values with aiokafka's `send()`, idempotent and without transactions or any
database. Both run alone on the same servers, fsync on. Ratios of medians count; single times do not.

    python -m benchmarks.relay.drain [--events 50000] [--rounds 5]
"""

import argparse
import asyncio
import os
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import uvloop
from aiokafka import AIOKafkaProducer
from rich.console import Console
from rich.table import Table

from chassis.identifiers import new_id
from chassis.kafka import client_arguments
from events.envelope import Envelope
from outbox.relay import Relay
from outbox.settings import RelaySettings
from tests.infrastructure import throwaway_folder
from tests.integration.outbox.private_servers import private_servers

VALUE = b'{"user":{"id":"0199d0c8-7d5c-7c5e-8a3f-0123456789ab"},"padding":"' + b"x" * 280 + b'"}'
USERS = 5_000
COLUMNS = ["event_id", "user_id", "version", "type", "time", "correlation_id", "causation_id", "traceparent", "value"]
BAR = 1.3

Connection = asyncpg.Connection


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


async def fill(connection: Connection, events: list[Envelope]) -> None:
    """Append the backlog."""
    rows = [
        (e.event_id, e.user_id, e.version, e.type, e.time, e.correlation_id, e.causation_id, None, VALUE)
        for e in events
    ]
    await connection.copy_records_to_table("outbox", records=rows, columns=COLUMNS)
    await connection.execute("ANALYZE outbox")
    await connection.execute("CHECKPOINT")


async def drain(settings: RelaySettings, connection: Connection, events: list[Envelope]) -> tuple[float, float]:
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


async def send(settings: RelaySettings, _: Connection, events: list[Envelope]) -> tuple[float, float]:
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


Subject = Callable[[RelaySettings, Connection, list[Envelope]], Awaitable[tuple[float, float]]]


async def run(events: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Interleave subject and reference; the first round warms up and is left out."""
    results: dict[str, list[tuple[float, float]]] = {"relay": [], "send()": []}
    subjects: dict[str, Subject] = {"relay": drain, "send()": send}
    folder = throwaway_folder()
    try:
        async with private_servers(folder) as private, private.session() as session:
            made = envelopes(events)
            for number in range(rounds + 1):
                for name, subject in subjects.items():
                    figures = await subject(private.settings, session, made)
                    if number:
                        results[name].append(figures)
    finally:
        shutil.rmtree(folder)
    return results


def show(results: dict[str, list[tuple[float, float]]], events: int, console: Console) -> float:
    """Print the table; gives the ratio."""
    table = Table(title=f"{events:,} events of {len(VALUE)} bytes ({os.cpu_count()} cores)")
    for heading in ("", "events/s", "min-max", "CPU ms/event"):
        table.add_column(heading, justify="right")
    rates = {}
    for name, figures in results.items():
        speeds = sorted(events / seconds for seconds, _ in figures)
        rates[name] = statistics.median(speeds)
        cpu = statistics.median(used for _, used in figures) / events * 1000
        table.add_row(name, f"{rates[name]:,.0f}", f"{speeds[0]:,.0f}-{speeds[-1]:,.0f}", f"{cpu:.4f}")
    console.print(table)
    ratio = rates["relay"] / rates["send()"]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    console.print(f"relay / send(): {ratio:.2f} (bar {BAR}) · peak memory of this process {memory:.0f} MB")
    return ratio


def main() -> int:
    """Run and say whether the bar holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        results = runner.run(run(options.events, options.rounds))
    return 0 if show(results, options.events, Console()) >= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
