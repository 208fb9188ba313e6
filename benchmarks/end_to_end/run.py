"""The whole way of a command, at rest and near the peak, with few users and with many, beside Kafka alone.

Everything runs as `make up` runs it, one process each, and shares all cores with the load: this is what one machine
does.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks.end_to_end.auditing import measure_audit
from benchmarks.end_to_end.client import connected
from benchmarks.end_to_end.journeys import Journey, Travellers, watched
from benchmarks.population import fill_command, fill_query
from benchmarks.references.kafka.producer import Message, producing, send_and_wait
from benchmarks.reporting.figures import number, percentile
from benchmarks.reporting.result import Result
from benchmarks.reporting.samples import cpu_seconds
from benchmarks.running.cores import ALL_CORES
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import NoFigureError, Probe, Rounds, Sample, interleave, pooled
from benchmarks.running.servers import Servers, open_servers
from chassis.kafka.client import client_arguments
from chassis.settings import Topics
from local_stack.processes.child import Child
from outbox.topics import TopicSettings

#: The rate of the bars.
BAR_RATE: Final = 200.0
#: Until the broker has compiled its code: its first transactions cost several times as much as later ones.
WARM_UP_SECONDS: Final = 10.0
QUICK_WARM_UP_SECONDS: Final = 0.5
#: A round beside Kafka alone is the mean of so many turns, since the machine's speed changes within seconds.
SLICES: Final = 2
#: Parts of the peak at which latencies are measured.
LOADS: Final = (0.2, 0.5, 0.8)
#: Enough that the machine is never idle, few enough that nobody queues for a connection.
TRAVELLERS: Final = 64
CONNECTIONS: Final = 256
#: The peak only sets the rates, so two rounds are enough.
PEAK_ROUNDS: Final = 2
#: Users of the first half; the plan says how many there are in the second.
FEW_USERS: Final = 1_000
#: As large as the event of a changed profile.
VALUE: Final = b"x" * 450
STAGES: Final = ("on the topic", "in the read table", "visible")
PARTS: Final = ("relay", "Kafka", "projector", "query")
PERCENTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


async def run(plan: Plan) -> Result:
    """Measure with few users and with many."""
    result = Result("End to end")
    result.note(
        "All processes share the machine with the load, as under `make up`. Somebody's profile is changed over HTTP; "
        "milliseconds count from the answer to the command, which leaves after the commit, until a read_committed "
        "consumer has the event (on the topic), the projector has announced its commit (in the read table), and a "
        "query with the command's consistency token is answered (visible). Commands begin at fixed times, whatever "
        "became of those before. The generator's CPU is part of the load; the consumer that watches the topic is no "
        "part of the way, and is left out where a whole journey is compared with Kafka alone."
    )
    async with open_servers(plan) as servers:
        async with system(servers) as running:
            for first, size in ((1, min(FEW_USERS, plan.users)), (FEW_USERS + 1, plan.users)):
                if size < first:
                    break
                plan.say(f"adding users up to {size:,}")
                await grow(servers, first, size)
                running.travellers.users = size
                if first == 1:
                    plan.say("warming up")
                    await running.travellers.at_rate(BAR_RATE, QUICK_WARM_UP_SECONDS if plan.quick else WARM_UP_SECONDS)
                async with watched(servers, running.travellers):
                    await latencies(plan, result, running.travellers, size)
            await against_kafka(plan, result, servers, running)
            await parts(plan, result, servers, running.travellers)
        await measure_audit(plan, result, servers, plan.users)
    return result


@dataclass(frozen=True, slots=True)
class Running:
    """A whole Muster, and the journeys through it."""

    travellers: Travellers
    command_port: int
    query_port: int
    #: By the names of the processes.
    pids: Mapping[str, int]
    #: Tells how many pages the relay has published so far.
    pages: Callable[[], Awaitable[float]]

    def at_rate(self, rate: float, seconds: float) -> Probe:
        """Run journeys at a rate; the parts have the cores that each process uses meanwhile, by `cores of NAME`.

        They also have the `pages` that the relay publishes a second.
        """
        inner = at_rate(self.travellers, rate, seconds)

        async def probe() -> Sample:
            pages = await self.pages()
            before, began = {name: cpu_seconds(pid) for name, pid in self.pids.items()}, time.perf_counter()
            sample = await inner()
            passed = time.perf_counter() - began
            used = {f"cores of {name}": (cpu_seconds(pid) - before[name]) / passed for name, pid in self.pids.items()}
            pages = (await self.pages() - pages) / passed
            return Sample(sample.value, {**sample.parts, **used, "cores": sum(used.values()), "pages": pages})

        return probe


@asynccontextmanager
async def system(servers: Servers) -> AsyncIterator[Running]:
    """Start both APIs, relay and projectors, one process each."""
    async with AsyncExitStack() as stack:
        command = await stack.enter_async_context(servers.app("cli.processes.serve:command_app", hot=True))
        query = await stack.enter_async_context(servers.app("cli.processes.serve:query_app", hot=True))
        relay = await stack.enter_async_context(servers.muster("relay", hot=True))
        projectors = await stack.enter_async_context(servers.muster("project", hot=True))
        processes: dict[str, Child | None] = {
            "the broker": servers.kafka, "PostgreSQL": servers.postgres, "the command API": command,
            "the relay": relay, "the projectors": projectors, "the query API": query,
        }  # fmt: skip
        pids = {name: process.pid for name, process in processes.items() if process and process.pid}
        travellers = Travellers(
            stack.enter_context(connected(command.port, CONNECTIONS)),
            stack.enter_context(connected(query.port, CONNECTIONS)),
            users=1,
        )
        pages = await stack.enter_async_context(published_pages(servers))
        yield Running(travellers, command.port, query.port, pids, pages)


@asynccontextmanager
async def published_pages(servers: Servers) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Yield what counts the pages of the relay so far, by the ends of its own topic."""
    consumer = AIOKafkaConsumer(**client_arguments(servers.kafka_settings))
    partition = TopicPartition(servers.settings(TopicSettings).relay_topic, 0)

    async def count() -> float:
        # Each page is a record there, and the marker of its transaction.
        return float((await consumer.end_offsets([partition]))[partition] / 2)

    try:
        await consumer.start()
        yield count
    finally:
        await consumer.stop()


async def grow(servers: Servers, first: int, last: int) -> None:
    """Add users on both sides, at once: each takes a core."""
    async with servers.session("command") as command, servers.session("query") as query:
        await asyncio.gather(fill_command(command, last, first=first), fill_query(query, last, first=first))


async def latencies(plan: Plan, result: Result, travellers: Travellers, size: int) -> None:
    """Find the peak, then measure at parts of it; without a peak its line says so, and that is all."""

    async def peak() -> Sample:
        journeys = await travellers.at_peak(TRAVELLERS, plan.seconds)
        if not journeys:
            raise NoFigureError(f"no journey ended within {plan.seconds:g} s")
        return Sample(journeys)

    name = f"peak, {size:,} users"
    found = await interleave(plan, {name: peak}, unit="journeys/s", warm_up=False, rounds=min(PEAK_ROUNDS, plan.rounds))
    result.table(found)
    if not found[name].rounds:
        return
    rates = {f"{load:.0%} of the peak": found[name].median * load for load in LOADS}
    probes = {
        f"{load} ({number(rate)}/s), {size:,} users": at_rate(travellers, rate, plan.seconds / 2)
        for load, rate in rates.items()
    }
    tell_stages(result, await interleave(plan, probes, unit="ms, visible", warm_up=False))


def at_rate(travellers: Travellers, rate: float, seconds: float) -> Probe:
    """Run journeys at a rate; the figure is the median time until visible."""

    async def probe() -> Sample:
        return summary(await travellers.at_rate(rate, seconds))

    return probe


def summary(journeys: Sequence[Journey]) -> Sample:
    """Return percentiles of every stage, in milliseconds."""
    clocks = [journey.milliseconds() for journey in journeys]
    parts = {
        f"{stage} {name}": percentile([clock[stage] for clock in clocks], part)
        for stage in (*STAGES, *PARTS)
        for name, part in PERCENTILES.items()
    }
    return Sample(parts["visible p50"], {**parts, "p99": parts["visible p99"]})


def tell_stages(result: Result, rounds: Rounds) -> None:
    """Add a line for each stage and load: the median and the percentiles above."""
    for load in rounds.samples:
        for stage in STAGES:
            further = {name: rounds.part(load, f"{stage} {name}") for name in ("p95", "p99", "max")}
            result.measured(f"{stage}: {load}", rounds.part(load, f"{stage} p50"), "ms", further=further)


async def against_kafka(plan: Plan, result: Result, servers: Servers, running: Running) -> None:
    """Measure the bars: a whole journey beside one acknowledged record, at the same rate, in turns."""
    # A topic like that of the events, which only the reference writes.
    topic = (await servers.new_topics()).settings(Topics).events_topic
    async with producing(servers.kafka_settings) as producer:

        async def raw() -> Sample:
            messages = [Message(b"key", VALUE)] * int(BAR_RATE * plan.seconds)
            return await send_and_wait(producer, topic, messages, rate=BAR_RATE)

        reference, subject = f"send_and_wait, {BAR_RATE:.0f}/s", f"visible, {BAR_RATE:.0f}/s"
        turn = replace(plan, rounds=plan.rounds * SLICES)
        probes = {reference: raw, subject: running.at_rate(BAR_RATE, plan.seconds)}
        rounds = pooled(await interleave(turn, probes, unit="ms"), SLICES)
    result.measured(reference, rounds[reference], "ms", further={"p99": rounds.part(reference, "p99")})
    further = {name: rounds.part(subject, f"visible {name}") for name in ("p95", "p99", "max")}
    result.measured(subject, rounds[subject], "ms", further=further)
    middle, tail = rounds.ratio(subject, reference), rounds.ratio(subject, reference, "p99")
    busy = rounds.part(subject, "cores")
    pages = rounds.part(subject, "pages")
    result.measured(f"pages of the relay, {BAR_RATE:.0f}/s", pages, "pages/s")
    used = {name: rounds.part(subject, f"cores of {name}").median for name in running.pids}
    reason = cores_reason(used, pages.median)
    result.claim(f"cores of servers and processes, {BAR_RATE:.0f}/s", busy, at_most=1.2, unit="cores", reason=reason)
    result.claim(f"visible p50 / send_and_wait p50, {BAR_RATE:.0f}/s", middle, at_most=10, reason=reason)
    result.claim(f"visible p99 / send_and_wait p99, {BAR_RATE:.0f}/s", tail, at_most=20, reason=reason)


def cores_reason(used: Mapping[str, float], pages: float) -> str:
    """Return why every stage waits: what was busy in this very run beside the load, and in how many pages a second."""
    each = ", ".join(f"{name} {number(cores)}" for name, cores in used.items())
    return (
        f"of {len(ALL_CORES)} cores {number(sum(used.values()))} are busy at this rate ({each}), and the load generator"
        f" takes its part, so every stage waits for a core; the relay publishes {number(pages)} pages a second, and"
        " each costs all but the command API anew; send_and_wait has the cores to itself"
    )


async def parts(plan: Plan, result: Result, servers: Servers, travellers: Travellers) -> None:
    """Add how the time of a whole journey is spent, at the rate of the bars."""
    name = f"visible while watched, {BAR_RATE:.0f}/s"
    async with watched(servers, travellers):
        rounds = await interleave(
            plan, {name: at_rate(travellers, BAR_RATE, plan.seconds / 2)}, unit="ms", warm_up=False
        )
    for part in ("visible", *PARTS):
        further = {percent: rounds.part(name, f"{part} {percent}") for percent in ("p95", "p99", "max")}
        title = name if part == "visible" else f"{part}, of visible while watched, {BAR_RATE:.0f}/s"
        result.measured(title, rounds.part(name, f"{part} p50"), "ms", further=further)
