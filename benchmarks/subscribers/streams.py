"""Streams: how long from the commit until clients of the event API have an event, beside a consumer of the topic.

A thousand clients are connected: most want one user, some want everything. Then two thousand, whose memory counts.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final

import psutil
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.population import user_id
from benchmarks.reporting.figures import Figure, figure_of, number, percentile, quotient
from benchmarks.reporting.result import Result
from benchmarks.running.cores import OTHER_CORES, SERVER_CORES, pinned
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Rounds, Sample
from benchmarks.running.servers import Servers
from benchmarks.subscribers.client import streaming
from chassis.identifiers import new_id
from chassis.kafka.client import client_arguments
from chassis.settings import Topics
from events.envelope import Envelope
from events.user_events import USER_EVENTS, PublicUser, UserProfileChanged

#: Who want one user each, and who want everything.
FILTERED: Final = 990
WHOLE: Final = 10
#: What all of them are sent a second, together.
DELIVERIES_PER_SECOND: Final = 2000
MANY_CLIENTS: Final = 2000
#: One transaction each, as of a relay that is not in a hurry.
PAGE_SECONDS: Final = 0.02
#: What was committed last has come within this.
LAST_SECONDS: Final = 30.0
EVENT_API: Final = "event API, p99"
CONSUMER: Final = "aiokafka, read_committed, p99"


class Publications:
    """Events that are published at a rate, and when each was committed."""

    def __init__(self, servers: Servers) -> None:
        """Nothing is published yet."""
        self.committed: dict[bytes, float] = {}
        self._kafka, self._topic = servers.kafka_settings, servers.settings(Topics).events_topic
        self._version = 1

    async def publish(self, rate: float, seconds: float) -> None:
        """Publish so many a second, in a transaction each PAGE_SECONDS, of one user after the other."""
        producer = AIOKafkaProducer(**client_arguments(self._kafka), transactional_id=f"streams-{new_id()}")
        await producer.start()
        try:
            start, sent = time.perf_counter(), 0
            while (passed := time.perf_counter() - start) < seconds:
                if due := int(passed * rate) - sent:
                    await self._page(producer, range(sent, sent + due))
                    sent += due
                await asyncio.sleep(PAGE_SECONDS)
        finally:
            await producer.stop()

    async def _page(self, producer: AIOKafkaProducer, numbers: range) -> None:
        made: list[bytes] = []
        async with producer.transaction():
            futures = []
            for number in numbers:
                self._version += 1
                envelope, value = _change(number % FILTERED + 1, self._version)
                key = str(envelope.subject_id).encode()
                futures.append(await producer.send(self._topic, value, key=key, headers=envelope.headers()))
                made.append(str(envelope.event_id).encode())
            await asyncio.gather(*futures)
        now = time.perf_counter()
        self.committed.update(dict.fromkeys(made, now))

    def late(self, came: list[tuple[bytes, float]]) -> list[float]:
        """Milliseconds from the commit until each came; what came before we knew of the commit took none."""
        return [max(0.0, at - self.committed[event]) * 1000 for event, at in came]


def _change(number: int, version: int) -> tuple[Envelope, bytes | None]:
    now = datetime.now(UTC)
    user = PublicUser(
        id=user_id(number), email=f"user{number}@example.com", username=f"User-{number}", email_verified=False,
        display_name=f"Name {version}", attributes={}, is_active=True, status="active", version=version,
        created_at=now, updated_at=now,
    )  # fmt: skip
    event = UserProfileChanged(user=user, previous={"display_name": None})
    envelope = Envelope(
        event_id=new_id(), source=USER_EVENTS.source, type=event.type(), subject_id=user.id, version=version,
        time=now, correlation_id="benchmark", causation_id="benchmark",
    )  # fmt: skip
    return envelope, USER_EVENTS.encode(event)


async def measure_streams(plan: Plan, servers: Servers, result: Result) -> None:
    """Both at once, from the same commits: a machine that is slow meets both alike."""
    own = await servers.new_topics()
    paths = [*_filtered(FILTERED), *["/events"] * WHOLE]
    rate = DELIVERIES_PER_SECOND / (WHOLE + 1)
    samples: dict[str, list[Sample]] = {EVENT_API: [], CONSUMER: []}
    a_core: list[float] = []
    with pinned(OTHER_CORES):
        async with own.api("events", cores=SERVER_CORES) as api:
            process = psutil.Process(api.pid)
            for turn in range(0 if not plan.quick else 1, plan.rounds + 1):
                streams, consumer, used = await _round(own, api.port, process, paths, rate, 4 * plan.seconds)
                both = f"p99 {number(streams.value)} ms, aiokafka {number(consumer.value)} ms"
                plan.say(f"round {turn}/{plan.rounds}: {both}")
                if turn:
                    samples[EVENT_API].append(streams)
                    samples[CONSUMER].append(consumer)
                    a_core.append(quotient(streams.figure("deliveries"), used))
    runs = Rounds("ms", samples)
    result.note(
        f"{FILTERED} clients want one user each and {WHOLE} everything; together they are sent"
        f" {DELIVERIES_PER_SECOND:,} events/s. A consumer beside them reads the same commits."
    )
    for name in samples:
        result.measured(name, runs[name], "ms", further={"p50": runs.part(name, "p50")})
    result.measured("deliveries a second of one core's time", figure_of(a_core), "events/s")
    result.claim("event API p99 / aiokafka p99", runs.ratio(EVENT_API, CONSUMER, guard="p50"), at_most=3)


async def _round(  # noqa: PLR0913, PLR0917 - what a round is made of
    servers: Servers, port: int, process: psutil.Process, paths: list[str], rate: float, seconds: float
) -> tuple[Sample, Sample, float]:
    """What clients and the consumer had, and how many seconds of a core the event API has used.

    Who has not had everything within LAST_SECONDS has no figure.
    """
    publications = Publications(servers)
    streamed: list[tuple[bytes, float]] = []
    async with (
        streaming(port, paths, lambda event, at: streamed.append((event, at))) as clients,
        _consuming(servers) as consumed,
    ):
        before = _cpu(process)
        await publications.publish(rate, seconds)
        deliveries = len(publications.committed) * (WHOLE + 1)
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                while len(streamed) < deliveries or len(consumed) < len(publications.committed):
                    await asyncio.sleep(0.01)
        used = _cpu(process) - before
        assert not any(client.lost for client in clients)
    assert len(streamed) <= deliveries, "nobody was sent what it did not want"
    return (
        sample_of(publications.late(streamed), deliveries),
        sample_of(publications.late(consumed), len(publications.committed)),
        used,
    )


def sample_of(milliseconds: list[float], deliveries: int) -> Sample:
    """Percentiles of so many deliveries; no figure where some have not come."""
    if len(milliseconds) < deliveries:
        return Sample(math.nan)
    return Sample(percentile(milliseconds, 0.99), {"p50": percentile(milliseconds, 0.5), "deliveries": deliveries})


@asynccontextmanager
async def _consuming(servers: Servers) -> AsyncIterator[list[tuple[bytes, float]]]:
    """A consumer at the end of the topic, and what it has had."""
    consumer = AIOKafkaConsumer(
        servers.settings(Topics).events_topic,
        **client_arguments(servers.kafka_settings),
        isolation_level="read_committed",
        auto_offset_reset="latest",
    )
    had: list[tuple[bytes, float]] = []
    await consumer.start()

    async def follow() -> None:
        async for record in consumer:
            had.append((dict(record.headers)["ce_id"], time.perf_counter()))  # noqa: PERF401 - each at its time

    # It is where the topic ends before anything is published.
    for partition in consumer.assignment():
        await consumer.position(partition)
    following = asyncio.create_task(follow())
    try:
        yield had
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await consumer.stop()


async def measure_memory(plan: Plan, servers: Servers, result: Result) -> None:
    """Connect twice as many clients, send them events for a while, and look how large the worker is."""
    own = await servers.new_topics()
    publications, count = Publications(own), 0

    def came(_: bytes, __: float) -> None:
        nonlocal count
        count += 1

    async with own.api("events", cores=SERVER_CORES) as api:
        process = psutil.Process(api.pid)
        empty = _resident(process)
        async with streaming(api.port, _filtered(MANY_CLIENTS), came) as clients:
            await publications.publish(DELIVERIES_PER_SECOND / 10, 4 * plan.seconds)
            async with asyncio.timeout(LAST_SECONDS):
                while count < len(publications.committed):
                    await asyncio.sleep(0.05)
            full = _resident(process)
            assert not any(client.lost for client in clients)
    result.measured("memory of a worker without clients", Figure.once(empty), "MB")
    result.claim(f"memory of a worker with {MANY_CLIENTS:,} clients", Figure.once(full), at_most=300, unit="MB")


def _filtered(count: int) -> list[str]:
    """A path for each of so many users."""
    return [f"/events?user={user_id(number)}" for number in range(1, count + 1)]


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def _cpu(process: psutil.Process) -> float:
    return sum(sum(each.cpu_times()[:2]) for each in _family(process))


def _resident(process: psutil.Process) -> float:
    return sum(each.memory_info().rss for each in _family(process)) / 1e6
