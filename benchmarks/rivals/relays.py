"""The bars of the relay beside Kafka Connect with Debezium, exactly once on both sides."""

import asyncio
from dataclasses import replace
from typing import Final

import asyncpg

from benchmarks.references.kafka_connect.pins import DEBEZIUM_VERSION
from benchmarks.relay.backlog import envelopes
from benchmarks.relay.trickle import RATE, relay_probe
from benchmarks.reporting.figures import Figure, number, quotient
from benchmarks.reporting.result import Result
from benchmarks.rivals.contenders import Contender, contending
from benchmarks.rivals.draining import drain_probe
from benchmarks.rivals.kills import Counts, killed
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import NoFigureError, Probe, Rounds, interleave
from benchmarks.running.servers import open_servers
from events.envelope import Envelope
from local_stack.kafka.jars import KAFKA_VERSION

#: Seconds of both: of a quarter of them, the first and the last page are a good part of ours.
EVENTS: Final = 200_000
#: Each is up to half a minute of a worker that starts again.
KILLS: Final = 15
#: The JVM compiles what it does often: its drains, of a quarter of the events here, get faster for some rounds.
WARM_DRAINS: Final = 3
#: So many times faster a backlog is to drain.
FASTER: Final = 6
#: Of a trickle's round: at 200/s a p99 of one is that of a thousand events.
TRICKLE_SECONDS: Final = 5.0
SEED: Final = 1


async def measure(plan: Plan, result: Result) -> None:
    """Drain, trickle and kill both.

    Raises:
        LocalStackError: Kafka Connect cannot be had, or does not run.
    """
    result.fact("Kafka Connect", f"{KAFKA_VERSION}, Debezium {DEBEZIUM_VERSION}, one worker, exactly once, pgoutput")
    result.note(
        "Relays: one outbox is drained by `muster relay`, another with the same events by Kafka Connect with Debezium "
        "and its outbox event router, both exactly once, each in a process that runs all the time. A backlog is "
        "committed at once; the time until its last record is appended, and the process's CPU until then, count. "
        "Debezium deletes no rows, our relay does. In a trickle milliseconds count from the commit until a "
        "read_committed consumer has the event. Memory is the greatest resident size in a drain."
    )
    async with open_servers(plan, postgres_settings={"wal_level": "logical"}) as servers:
        plan.say("starting Kafka Connect")
        async with contending(servers) as contenders:
            await _drain(plan, result, contenders)
            await _trickle(plan, result, contenders)
            await _kill(plan, result, contenders)


async def _drain(plan: Plan, result: Result, contenders: tuple[Contender, Contender]) -> None:
    events = envelopes(EVENTS // 50 if plan.quick else EVENTS)
    few = {each.name: drain_probe(each, events[: len(events) // 4]) for each in contenders}
    probes = {f"{each.name}, drain": drain_probe(each, events) for each in contenders}
    if not plan.quick:
        await interleave(replace(plan, rounds=WARM_DRAINS), few, unit="events/s, to warm up", warm_up=False)
    rounds = await interleave(plan, probes, unit="events/s", warm_up=False)
    result.fact("Backlog", f"{len(events):,} events")
    result.table(rounds)
    for name in probes:
        result.measured(f"{name}: CPU per event", rounds.part(name, "cpu"), "ms")
        result.measured(f"{name}: memory", rounds.part(name, "MB"), "MB")
    subject, reference = probes
    drained = rounds.ratio(subject, reference)
    result.claim("drain / Kafka Connect", drained, at_least=FASTER, reason=drain_reason(rounds, subject, reference))
    cpu = rounds.ratio(subject, reference, "cpu")
    result.claim("CPU per event / Kafka Connect", cpu, at_most=0.1, reason=cpu_reason(rounds, subject, reference))
    result.claim("memory / Kafka Connect", rounds.ratio(subject, reference, "MB", guard="MB"), at_most=0.25)


def drain_reason(rounds: Rounds, subject: str, reference: str) -> str:
    """Return what bounds the drain."""
    each, theirs = rounds.part(subject, "cpu").median, rounds[reference].median
    return (
        f"{FASTER} times Kafka Connect's {number(theirs)} are {number(FASTER * theirs)}; an event takes"
        f" {number(each * 1000)} µs of the one core that the relay can use, so {number(quotient(1000, each))} a second"
        " are the most, without what PostgreSQL and Kafka take of the same cores"
    )


def cpu_reason(rounds: Rounds, subject: str, reference: str) -> str:
    """Return the reason why a relay takes more of the processor than its bar expects."""
    ours, theirs = (rounds.part(name, "cpu").median * 1000 for name in (subject, reference))
    return (
        f"a tenth of Kafka Connect's {number(theirs)} µs is {number(theirs / 10)}; an event takes {number(ours)} of"
        " ours, which also deletes its row"
    )


async def _trickle(plan: Plan, result: Result, contenders: tuple[Contender, Contender]) -> None:
    seconds = min(TRICKLE_SECONDS, plan.seconds * 2.5)
    events = envelopes(int(RATE * seconds))
    probes = {f"{each.name}, commit to consumer, p50": _trickling(each, events) for each in contenders}
    rounds = await interleave(plan, probes, unit="ms")
    result.fact("Trickle", f"{RATE} events/s, {len(events):,} events a round")
    result.table(rounds)
    for name in probes:
        result.measured(name.replace("p50", "p99"), rounds.part(name, "p99"), "ms")
    subject, reference = probes
    result.observed("commit to consumer / Kafka Connect, p50", rounds.ratio(subject, reference))
    result.claim("commit to consumer / Kafka Connect, p99", rounds.ratio(subject, reference, "p99"), at_most=0.5)


def _trickling(contender: Contender, events: list[Envelope]) -> Probe:
    async def append(connection: asyncpg.Connection, event: Envelope) -> None:
        await contender.append(connection, [event])

    return relay_probe(contender.servers, events, append)


async def _kill(plan: Plan, result: Result, contenders: tuple[Contender, Contender]) -> None:
    kills = 1 if plan.quick else KILLS
    plan.say(f"killing both {kills} times")
    ours, theirs = await asyncio.gather(*(_killed_or_why_not(each, kills) for each in contenders))
    assert isinstance(ours, Counts), ours
    for name in ("lost", "repeated", "inverted"):
        count = Figure.once(getattr(ours, name))
        result.claim(f"relay: events {name} in {kills} kills, of {ours.committed:,}", count, at_most=0, unit="events")
    if isinstance(theirs, NoFigureError):
        result.note(f"The kills of Kafka Connect came to no end: {theirs}.")
        return
    for name in ("lost", "repeated", "inverted"):
        title = f"Kafka Connect: events {name} in {kills} kills, of {theirs.committed:,}"
        result.measured(title, Figure.once(getattr(theirs, name)), "events")


async def _killed_or_why_not(contender: Contender, kills: int) -> Counts | NoFigureError:
    try:
        return await killed(contender, kills, SEED)
    except NoFigureError as error:
        return error
