"""What a look at a rate limit costs: one is taken for every request, so it may cost next to nothing."""

import itertools
import time
from typing import Final

from benchmarks.reporting.result import Result
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Sample, interleave
from chassis.access.caller import Caller
from chassis.access.rates import RateLimits
from chassis.access.rules import Rule

#: Callers who take turns; each is known to the limit before it is measured.
CALLERS: Final = 10_000
#: Looks of one sample: some tenths of a second.
LOOKS: Final = 200_000
#: More than are taken, so that nobody is refused.
RATES: Final = {"reads": "1000000/s"}
LOOK: Final = "a look at a rate limit"


async def looks(plan: Plan, result: Result) -> None:
    """Claim what one look costs, by the guard's own call, in time of the processor: it waits for nothing."""
    limits = RateLimits(RATES)
    rule = Rule("GET", "/users", ("users:read",), limit="reads")
    callers = [Caller(issuer="https://issuer.example", subject=f"service-{number}") for number in range(CALLERS)]

    async def look() -> Sample:
        turns = itertools.islice(itertools.cycle(callers), LOOKS)
        begun = time.thread_time()
        for caller in turns:
            limits.take(rule, caller, "", own_only=False)
        return Sample((time.thread_time() - begun) / LOOKS * 1e6)

    rounds = await interleave(plan, {LOOK: look}, unit="µs")
    result.table(rounds)
    result.claim(f"time of {LOOK}", rounds[LOOK], at_most=5, unit="µs")
