"""How many records a second the kit decodes on one core, beside `json.loads` of their values.

The reference reads JSON and nothing else. The kit reads the headers too, checks everything, and makes ids and times.
"""

import json
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, Final

from benchmarks.references.kafka.producer import Message
from benchmarks.registrations import registrations
from benchmarks.reporting.result import Result
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Probe, Sample, interleave, pooled
from events import UserEvent, decode

#: Different records, so that nothing is remembered; more than fit into a core's caches.
RECORDS: Final = 20_000
#: A round is so many turns: the machine's speed changes within seconds.
SLICES: Final = 4
KIT: Final = "kit's decode"
JSON: Final = "json.loads of the value"


async def measure_decoding(plan: Plan, result: Result) -> None:
    """Measure both in turns."""
    result.note("One thread decodes records as the relay writes them, from memory, over and over.")
    messages = list(islice(registrations(RECORDS), RECORDS))
    seconds = plan.seconds / SLICES
    probes = {JSON: _rate(_load, messages, seconds), KIT: _rate(_decode, messages, seconds)}
    rounds = await interleave(plan, probes, unit="records/s", rounds=plan.rounds * SLICES)
    runs = pooled(rounds, SLICES)
    result.table(runs)
    result.claim("kit's decode / json.loads", runs.ratio(KIT, JSON), at_least=0.4)
    result.claim("kit's decode, one core", runs[KIT], at_least=200_000, unit="records/s")


def _rate(work: Callable[[Iterable[Message]], Any], messages: list[Message], seconds: float) -> Probe:
    async def probe() -> Sample:
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            work(messages)
            done += len(messages)
        return Sample(done / (time.perf_counter() - began))

    return probe


def _load(messages: Iterable[Message]) -> None:
    for message in messages:
        json.loads(message.value or b"")


def _decode(messages: Iterable[Message]) -> None:
    for message in messages:
        assert type(decode(message.key, message.headers, message.value)) is UserEvent
