"""faststream-outbox as a relay to Kafka: its table with the same events, its subscriber, FastStream's publisher.

The handler gives key, value and headers on as they are, without decoding, which is the least that a relay can do. At
its best tuning means: many workers, large fetches, batched deletes, no validation of types and no log lines. A quarter
of the workers was a third slower.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from faststream.kafka import KafkaBroker, KafkaResponse
from faststream_outbox import OutboxBroker, make_outbox_table
from sqlalchemy import MetaData, Table
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from benchmarks.running.rounds import NoFigureError, Probe, Sample
from benchmarks.running.servers import Servers
from events.envelope import Envelope
from outbox.settings import RelaySettings

TABLE: Final = "faststream_outbox"
QUEUE: Final = "users"
#: Between two looks at how many rows are left.
LOOK_SECONDS: Final = 0.02
#: Its first fetch comes within its longest interval.
START_SECONDS: Final = 30.0

DEFAULT: Final[Mapping[str, Any]] = {}
TUNED: Final[Mapping[str, Any]] = {
    "max_workers": 32,
    "fetch_batch_size": 1000,
    "min_fetch_interval": 0.01,
    "terminal_flush_batch_size": 100,
}


def probe(servers: Servers, events: list[Envelope], value: bytes, tuning: Mapping[str, Any], seconds: float) -> Probe:
    """Relay for so many seconds, from the moment that two of its fetches are gone on; the backlog must last as long.

    Sooner, what it has published and not yet deleted would count as done within the time.
    """

    async def once() -> Sample:
        engine = create_async_engine(servers.url("command"), pool_size=40, max_overflow=20)
        try:
            table = make_outbox_table(MetaData(), TABLE)
            await _fill(servers, engine, table, events, value)
            async with _relaying(servers, engine, table, tuning), servers.session("command") as connection:
                return await _watch(connection, seconds, 2 * tuning.get("fetch_batch_size", 10))
        finally:
            await engine.dispose()

    return once


async def _fill(servers: Servers, engine: AsyncEngine, table: Table, events: list[Envelope], value: bytes) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(table.metadata.drop_all)
        await connection.run_sync(table.metadata.create_all)
    rows = [(QUEUE, value, json.dumps(_headers(event))) for event in events]
    async with servers.session("command") as session:
        await session.copy_records_to_table(TABLE, records=rows, columns=("queue", "payload", "headers"))
        await session.execute(f"ANALYZE {TABLE}")
        await session.execute("CHECKPOINT")


def _headers(event: Envelope) -> dict[str, str]:
    return {name: value.decode() for name, value in event.headers()}


@asynccontextmanager
async def _relaying(
    servers: Servers, engine: AsyncEngine, table: Table, tuning: Mapping[str, Any]
) -> AsyncIterator[None]:
    settings = servers.settings(RelaySettings)
    kafka = KafkaBroker(
        settings.kafka_bootstrap_servers,
        enable_idempotence=True,
        compression_type="lz4",
        apply_types=not tuning,
        logger=None,
    )
    # Without a logger, since two lines for each event would cost more than all the rest.
    source = OutboxBroker(engine, outbox_table=table, logger=None, apply_types=not tuning)

    @kafka.publisher(settings.events_topic)
    @source.subscriber(QUEUE, decoder=_as_it_is, **tuning)  # type: ignore[untyped-decorator]  # as mypy sees it
    async def relay(message: Any) -> KafkaResponse:
        return KafkaResponse(message.body, key=message.headers["ce_subject"].encode(), headers=message.headers)

    await kafka.connect()
    await source.start()
    try:
        yield
    finally:
        await source.stop()
        await kafka.stop()


async def _as_it_is(message: Any) -> Any:
    return message


async def _watch(connection: Any, seconds: float, fetched: int) -> Sample:
    full = left = await _left(connection)
    start = time.perf_counter()
    while left > full - min(fetched, full // 4):
        if time.perf_counter() > start + START_SECONDS:
            raise NoFigureError(f"it relayed {full - left} events in its first {START_SECONDS:.0f} s")
        await asyncio.sleep(LOOK_SECONDS)
        left = await _left(connection)
    before, began, cpu = left, time.perf_counter(), time.process_time()
    while left and time.perf_counter() < began + seconds:
        await asyncio.sleep(LOOK_SECONDS)
        left = await _left(connection)
    elapsed, used = time.perf_counter() - began, time.process_time() - cpu
    relayed = before - left
    return Sample(relayed / elapsed, {"cpu": used / max(1, relayed) * 1000})


async def _left(connection: Any) -> int:
    left: int = await connection.fetchval(f"SELECT count(*) FROM {TABLE}")  # noqa: S608 - a constant of ours
    return left
