"""The relay's bars: draining a backlog, a trickle, memory and CPU, a held snapshot, take-over.

Everything is a ratio to a reference that ran in the same rounds, or a count. The servers are durable (fsync on) and
share the machine with subject and load, as they do for the reference.
"""

from dataclasses import replace
from functools import partial
from typing import Final

from benchmarks.references.faststream_outbox import relay as faststream_outbox
from benchmarks.references.kafka.producer import send, send_batches
from benchmarks.relay import depth, draining, take_over, trickle
from benchmarks.relay.backlog import VALUE, envelopes, messages
from benchmarks.reporting.figures import Figure, number, quotient
from benchmarks.reporting.result import Result
from benchmarks.running.cores import ALL_CORES
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Rounds, interleave, pooled
from benchmarks.running.servers import Servers, open_servers
from outbox.settings import RelaySettings

EVENTS: Final = 50_000
HELD_EVENTS: Final = 100_000
MANY_EVENTS: Final = 1_000_000
FEW_EVENTS: Final = 10_000
#: Events for the slower relay: at least as many as it relays in one probe.
SLOW_EVENTS: Final = 8_000
SLOW_SECONDS: Final = 1.0
#: A round of drains is the mean of so many turns, since the machine's speed changes within seconds.
SLICES: Final = 2
#: Seconds of one idle round: a process's clock ticks 100 times a second, so three ticks are a hundredth of a core.
IDLE_SECONDS: Final = 3.0
MEGABYTE: Final = 1024 * 1024
#: A broker compiles what it does often, one kind of request after the other. Without a warm-up, the second round of a
#: fresh broker is a third faster than the first, and the trickle gets faster for half a minute, for subject and
#: reference alike.
WARM_BATCHES: Final = 10
WARM_TRICKLES: Final = 3


async def run(plan: Plan) -> Result:
    """Measure everything, the most important first."""
    result = Result("Relay")
    result.fact("Events", f"{len(VALUE)} bytes of value, 11 headers")
    result.note(
        "Drains run inside the benchmark's process, the trickle and the million through `muster relay` in its own."
    )
    async with open_servers(plan) as servers:
        await _drain(plan, servers, result)
        await _hold_a_snapshot(plan, servers, result)
        async with servers.muster("relay", hot=True):
            await _trickle(plan, servers, result)
        await _go_deep(plan, servers, result)
        await _take_over(plan, servers, result)
    return result


def _scaled(plan: Plan, events: int) -> int:
    return max(1000, events // 50) if plan.quick else events


async def _drain(plan: Plan, servers: Servers, result: Result) -> None:
    events = envelopes(_scaled(plan, EVENTS))
    slow, sent = events[: _scaled(plan, SLOW_EVENTS)], messages(events)
    settings = servers.settings(RelaySettings)
    for _ in range(0 if plan.quick else WARM_BATCHES):
        await send_batches(settings, settings.events_topic, sent)
    turns = await interleave(
        replace(plan, rounds=plan.rounds * SLICES),
        {
            "send()": partial(send, settings, settings.events_topic, sent),
            "create_batch()": partial(send_batches, settings, settings.events_topic, sent),
            "relay": draining.drain_probe(servers, events),
            "faststream-outbox": faststream_outbox.probe(
                servers, slow, VALUE, faststream_outbox.TUNED, min(SLOW_SECONDS, plan.seconds)
            ),
        },
        unit="events/s",
    )
    rounds = pooled(turns, SLICES)
    seconds = min(SLOW_SECONDS, plan.seconds)
    untuned = "faststream-outbox, untuned"
    defaults = {untuned: faststream_outbox.probe(servers, slow, VALUE, faststream_outbox.DEFAULT, seconds)}
    once = await interleave(plan, defaults, unit="events/s", warm_up=False, rounds=1)
    result.fact("Backlog", f"{len(events):,} events; faststream-outbox relays the first of them for {SLOW_SECONDS:g} s")
    result.table(rounds)
    result.measured(untuned, once[untuned], "events/s", "once")
    result.measured("send(), CPU per event", rounds.part("send()", "cpu"), "ms")
    result.claim("drain / send()", rounds.ratio("relay", "send()"), at_least=1.3)
    result.observed("drain / create_batch()", rounds.ratio("relay", "create_batch()"))
    result.claim(
        "drain / faststream-outbox, tuned",
        rounds.ratio("relay", "faststream-outbox"),
        at_least=30,
        reason=_drain_reason(rounds),
    )
    result.claim("CPU per event", rounds.part("relay", "cpu"), at_most=0.012, unit="ms")
    result.claim("statements per event", Figure.once(rounds.part("relay", "statements").high), at_most=0.005, unit="")


def _drain_reason(rounds: Rounds) -> str:
    """Return the reason why the machine, and not the relay alone, bounds how much faster it can be."""
    parts = {"the relay": "cpu", "PostgreSQL": "postgres cpu", "Kafka": "kafka cpu"}
    spent = {name: rounds.part("relay", part).median * 1000 for name, part in parts.items()}
    most = quotient(1e6 * len(ALL_CORES), sum(spent.values()))
    each = ", ".join(f"{number(microseconds)} µs of {name}" for name, microseconds in spent.items())
    return (
        f"an event takes {each}, so {number(most)} a second is the most that {len(ALL_CORES)} cores could do, and the"
        f" reference does {number(rounds['faststream-outbox'].median)}"
    )


async def _hold_a_snapshot(plan: Plan, servers: Servers, result: Result) -> None:
    events = envelopes(_scaled(plan, HELD_EVENTS))
    rounds = await interleave(
        plan,
        {
            "relay, 100,000": draining.drain_probe(servers, events),
            "relay, 100,000, snapshot held": draining.drain_probe(servers, events, held=True),
        },
        unit="events/s",
        warm_up=False,
    )
    result.table(rounds)
    ratio = rounds.ratio("relay, 100,000, snapshot held", "relay, 100,000")
    result.claim("drain with a held snapshot / without", ratio, at_least=0.9)


async def _trickle(plan: Plan, servers: Servers, result: Result) -> None:
    events = envelopes(int(trickle.RATE * plan.seconds))
    for _ in range(0 if plan.quick else WARM_TRICKLES):
        await trickle.relay_probe(servers, events)()
    rounds = await interleave(
        plan,
        {
            "send_and_wait, p50": trickle.send_probe(servers, events),
            "commit to consumer, p50": trickle.relay_probe(servers, events),
        },
        unit="ms",
    )
    subject, reference = "commit to consumer, p50", "send_and_wait, p50"
    result.fact("Trickle", f"{trickle.RATE} events/s, {len(events)} events a round")
    result.table(rounds)
    result.measured("send_and_wait, p99", rounds.part(reference, "p99"), "ms")
    result.measured("commit to consumer, p99", rounds.part(subject, "p99"), "ms")
    result.claim(
        "trickle, commit to consumer / send_and_wait, p50",
        rounds.ratio(subject, reference),
        at_most=7,
        reason="an event waits for the transaction before its own, then for three requests one after the other, and"
        " until markers are written and fetched; the reference is one request, of"
        f" {number(rounds[reference].median)} ms",
    )
    # The median of the p99s tells whether the machine was calm.
    tail = rounds.ratio(subject, reference, "p99")
    result.claim("trickle, commit to consumer / send_and_wait, p99", tail, at_most=12)


async def _go_deep(plan: Plan, servers: Servers, result: Result) -> None:
    many, few = _scaled(plan, max(MANY_EVENTS, plan.users)), _scaled(plan, FEW_EVENTS)
    shallow = await interleave(plan, {"a page, shallow": depth.page_probe(servers, few)}, unit="ms", warm_up=False)
    deep = await interleave(plan, {"a page, deep": depth.page_probe(servers, many)}, unit="ms", warm_up=False)
    result.measured(f"a page in front of {few:,} rows", shallow["a page, shallow"], "ms")
    result.measured(f"a page in front of {many:,} rows", deep["a page, deep"], "ms")
    # What the pages were read in front of.
    usage = await depth.drain_in_its_process(servers)
    plan.say(f"drained {many:,} in {usage.seconds:.1f} s")
    idle = await depth.idle(servers, plan.rounds, IDLE_SECONDS / 10 if plan.quick else IDLE_SECONDS)
    result.fact("Depth", f"{many:,} events, drained in {usage.seconds:.0f} s")
    memory = Figure.once(usage.peak_bytes / MEGABYTE)
    result.claim(f"memory while draining {many:,}", memory, at_most=100, unit="MB")
    percent = Figure(tuple(100 * cores for cores in idle))
    result.claim("CPU of an idle relay", percent, at_most=2, unit="% of a core", every_round=True)


async def _take_over(plan: Plan, servers: Servers, result: Result) -> None:
    killed = Figure(tuple(await take_over.after_kill(servers, plan.rounds)))
    result.claim("take-over after kill -9", killed, at_most=2, unit="s", every_round=True)
    if not plan.quick:
        frozen = Figure(tuple([await take_over.after_freeze(servers) for _ in range(plan.rounds)]))
        result.claim("take-over after the host froze", frozen, at_most=10, unit="s", every_round=True)
