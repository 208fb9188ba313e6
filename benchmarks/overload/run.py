"""Both APIs under more load than they can serve: what is served of it, how late, and how soon /health answers.

The capacity is what a closed loop gets. Then requests are due at multiples of it, whatever became of those before, as
from clients that do not mind Retry-After. Last /health is asked beside clients that send what is dear to read.
"""

import asyncio
import itertools
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final

from benchmarks.overload.greedy import CLIENTS, greedy_clients
from benchmarks.population import fill_command, fill_query, user_id
from benchmarks.reporting.figures import Figure, figure_of, percentile, quotient
from benchmarks.reporting.result import Result
from benchmarks.running.cores import OTHER_CORES, SERVER_CORES, pinned
from benchmarks.running.load import SETTLE_SECONDS, Measured, Next, closed_loop, open_loop, request
from benchmarks.running.plan import Plan
from benchmarks.running.servers import Servers, Side, open_servers, pin_servers

#: Times the capacity.
LOADS: Final = (0.5, 1, 2, 3, 10)
#: Users, each changed and read in turn.
USERS: Final = 2000
CLOSED_CONNECTIONS: Final = 32
#: More than a process begins at once, so that a queue can form before it.
OPEN_CONNECTIONS: Final = 1000
#: As many that their p99 is not their slowest.
HEALTH_RATE: Final = 100
HEALTH_CONNECTIONS: Final = 4
SERVED_PART: Final = 0.9
HEALTH_MS: Final = 100
SIDES: Final[tuple[Side, ...]] = ("command", "query")


async def run(plan: Plan) -> Result:
    """Measure each API at each load, round by round."""
    result = Result("Overload")
    result.note(
        f"One worker on one core; PostgreSQL and the load generator have the others. {CLOSED_CONNECTIONS} clients that "
        f"ask as fast as they are answered tell the capacity; then {OPEN_CONNECTIONS} connections ask at multiples of "
        "it, and come again at once where they are refused. /health is asked beside them, and beside "
        f"{3 * CLIENTS} greedy clients, in a process of their own on the generator's core: heads of 176 KiB, requests "
        "without a pause, chunks of line ends. Times count from when a request was due; served is what is answered "
        f"while requests are due, from {SETTLE_SECONDS} s on at every load: the first fills the queue."
    )
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(open_servers(plan, kafka=False))
        await _fill(servers)
        pin_servers(servers)
        stack.enter_context(pinned(OTHER_CORES))
        for side in SIDES:
            api = await stack.enter_async_context(servers.api(side, cores=SERVER_CORES))
            rounds = [await _round(plan, side, api.port) for _ in range(plan.rounds)]
            _tell(result, side, rounds)
            greedy = [await _beside_greedy_clients(plan, side, api.port) for _ in range(plan.rounds)]
            name = f"{side}: /health p99 beside greedy clients"
            result.claim(name, _p99(greedy), at_most=HEALTH_MS, unit="ms", every_round=True)
    return result


async def _fill(servers: Servers) -> None:
    async with servers.session("command") as command, servers.session("query") as query:
        await fill_command(command, USERS)
        await fill_query(query, USERS)


def _requests(side: Side) -> Next:
    """A change of one user after the other, or a look at one."""
    ids = itertools.cycle([user_id(number) for number in range(1, USERS + 1) if number % 50])
    names = itertools.count()
    if side == "query":
        return lambda: request(f"/users/{next(ids)}")
    return lambda: request(
        f"/users/{next(ids)}/profile", method="PATCH", document={"display_name": f"Name {next(names)}"}
    )


async def _round(plan: Plan, side: Side, port: int) -> Mapping[float, tuple[Measured, Measured]]:
    """The load and the probes of /health beside it, for each load."""
    following = _requests(side)
    peak = await closed_loop(port, following, connections=CLOSED_CONNECTIONS, seconds=plan.seconds)
    plan.say(f"{side}: {peak.rate:.0f}/s at the peak")
    measured = {}
    for load in LOADS:
        measured[load] = await asyncio.gather(
            open_loop(
                port,
                following,
                rate=peak.rate * load,
                connections=OPEN_CONNECTIONS,
                seconds=plan.seconds,
                settle=SETTLE_SECONDS,
                good=(200, 503),
            ),
            _ask_health(plan, port),
        )
        served = measured[load][0]
        rate = served.served / served.seconds
        plan.say(f"{side} at {load:g}×: {rate:.0f}/s served, {served.statuses}; {served.cost * 1e6:.0f} µs an answer")
    return measured


async def _ask_health(plan: Plan, port: int) -> Measured:
    return await open_loop(
        port, lambda: request("/health"), rate=HEALTH_RATE, connections=HEALTH_CONNECTIONS, seconds=plan.seconds
    )


async def _beside_greedy_clients(plan: Plan, side: Side, port: int) -> Measured:
    async with greedy_clients(port):
        measured = await _ask_health(plan, port)
    plan.say(f"{side} beside greedy clients: /health {percentile(measured.accepted, 0.99) * 1000:.0f} ms p99")
    return measured


def _p99(runs: list[Measured]) -> Figure:
    values = [percentile(one.accepted, 0.99) * 1000 for one in runs]
    return figure_of(values)


def _tell(result: Result, side: Side, rounds: list[Mapping[float, tuple[Measured, Measured]]]) -> None:
    def figure(load: float, of: int, part: float | None = None) -> Figure:
        runs = [each[load][of] for each in rounds]
        values = [one.served / one.seconds if part is None else percentile(one.accepted, part) * 1000 for one in runs]
        return figure_of(values)

    for load in LOADS:
        result.measured(f"{side}: served at {load:g}×", figure(load, 0), "/s")
        result.measured(f"{side}: p99 of what is served at {load:g}×", figure(load, 0, 0.99), "ms")
        result.measured(f"{side}: /health p99 at {load:g}×", figure(load, 1, 0.99), "ms")
    once, thrice = figure(1, 0), figure(3, 0)
    ratios = [quotient(three, one) for three, one in zip(thrice.values, once.values, strict=True)]
    result.claim(f"{side}: served at 3× / at 1×", figure_of(ratios, once.variation), at_least=SERVED_PART)
    result.claim(f"{side}: /health p99 at 3×", figure(3, 1, 0.99), at_most=HEALTH_MS, unit="ms", every_round=True)
