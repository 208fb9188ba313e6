"""How many records a second the kit decodes on one core, beside `json.loads` of their values.

The reference reads JSON and nothing else. The kit reads the headers too, checks everything, and makes ids and times.
"""

import json
import time
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

from pydantic import TypeAdapter
from typing_extensions import TypedDict  # pydantic needs it, and this one, before Python 3.12

from benchmarks.registrations import registrations
from benchmarks.reporting.figures import number, quotient
from benchmarks.reporting.result import Result
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Probe, Sample, interleave, pooled
from events import User, UserEvent, decode
from events.decoding import Headers

#: Different records, so that nothing is remembered; more than fit into a core's caches.
RECORDS: Final = 20_000
#: A round is so many turns: the machine's speed changes within seconds.
SLICES: Final = 4
KIT: Final = "kit's decode"
JSON: Final = "json.loads of the value"
VALUE: Final = "pydantic alone, the value"


class _Value(TypedDict):
    """As much of an event's value as a registration has."""

    user: User
    previous: dict[str, Any]


_VALUE: Final = TypeAdapter(_Value)
Record = tuple[bytes | None, Headers, bytes | None]


async def measure_decoding(plan: Plan, result: Result) -> None:
    """Measure all in turns."""
    result.note("One thread decodes records as the relay writes them, from memory, over and over.")
    messages = islice(registrations(RECORDS), RECORDS)
    records: list[Record] = [(each.key, each.headers, each.value) for each in messages]
    seconds = plan.seconds / SLICES
    probes = {
        JSON: _rate(_load, records, seconds),
        KIT: _rate(_decode, records, seconds),
        VALUE: _rate(_validate, records, seconds),
    }
    rounds = await interleave(plan, probes, unit="records/s", rounds=plan.rounds * SLICES)
    runs = pooled(rounds, SLICES)
    result.table(runs)
    result.claim("kit's decode / json.loads", runs.ratio(KIT, JSON), at_least=0.4)
    whole, value = (number(quotient(1e6, runs[name].median)) for name in (KIT, VALUE))
    reason = f"of {whole} µs a record, pydantic takes {value} to read and check the value; the rest is for the headers"
    result.claim("kit's decode, one core", runs[KIT], at_least=200_000, unit="records/s", reason=reason)


def _rate(work: Callable[[list[Record]], None], records: list[Record], seconds: float) -> Probe:
    async def probe() -> Sample:
        began, done = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            work(records)
            done += len(records)
        return Sample(done / (time.perf_counter() - began))

    return probe


def _load(records: list[Record]) -> None:
    for _, _, value in records:
        json.loads(value or b"")


def _validate(records: list[Record]) -> None:
    for _, _, value in records:
        _VALUE.validate_json(value or b"", strict=True)


def _decode(records: list[Record]) -> None:
    for key, headers, value in records:
        assert type(decode(key, headers, value)) is UserEvent
