"""The bars of `POST /credentials/verify`: its rate beside bare hashes, equal times of all refusals, a flood of guesses.

One worker on one core, its hashing thread too, PostgreSQL and the load generator on the others, as for commands.
"""

import statistics
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

import httpx

from benchmarks.commands.run import bare_hashes, hashing_app, load, watched
from benchmarks.credentials.blocklist import look_up
from benchmarks.credentials.flood import (
    AT_ONCE_SECONDS,
    LOST_SECONDS,
    STEADY_SECONDS,
    calm,
    flooded,
    open_target,
)
from benchmarks.credentials.requests import PASSWORD, PATH, USERS, logins, register
from benchmarks.reporting.figures import Figure, number, percentile
from benchmarks.reporting.result import Result
from benchmarks.running.cores import OTHER_CORES, SERVER_CORES, pinned
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Rounds, interleave
from benchmarks.running.servers import open_servers, pin_servers

#: A hash takes 20 ms, so two seconds of them are too few to show a difference of a tenth.
TIMES: Final = 2
REFUSALS, REFUSALS_QUICK = 1_000, 20
#: Fewer than the failures after which an identifier is refused unread.
REFUSALS_OF_ONE: Final = 9
KINDS: Final = ("wrong", "unknown", "deactivated", "erased")
OTHERS_SECONDS: Final = 10.0
#: Up to a second nobody feels that a page has stopped: what "at once" means in a flood.
OWNER_MS: Final = 1000
ALONE: Final = "others alone"
#: How much longer others may wait for their logins while one account is guessed at.
MOST_SLOWER: Final = 1.5


async def run(plan: Plan) -> Result:
    """Measure verifications, refusals and a flood."""
    result = Result("Credentials")
    result.note(
        "One worker on one core with one hashing thread; PostgreSQL and the load generator have the others; access is "
        "off. Refusals are asked one after the other, the four kinds in turns. A flood is of 10,000 guesses at one "
        "account, on connections that are open beforehand, while others log in five times a second, and the owner "
        "four times, from a known device; alone is the same without the guesses, which a process of their own sends. "
        "They come within a second, which is more than the core can answer, and steadily within ten. What was hashed "
        "the process itself counts. A p99 of others beside that alone is of the logins of all rounds but one, each "
        "left out in turn: of the fifty of one round it is the slowest."
    )
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(open_servers(plan, kafka=False))
        pin_servers(servers)
        stack.enter_context(pinned(OTHER_CORES))
        app = await stack.enter_async_context(hashing_app(servers, SERVER_CORES))
        client = await stack.enter_async_context(
            httpx.AsyncClient(base_url=app.url, trust_env=False, timeout=LOST_SECONDS)
        )
        refusals = REFUSALS_QUICK if plan.quick else REFUSALS
        await register(client, "known", USERS)
        for kind in ("wrong", "deactivated", "erased"):
            await register(client, kind, -(-refusals // REFUSALS_OF_ONE))
        seconds = plan.seconds * TIMES
        verifying = load(app.port, logins(), 200, seconds)
        probes = {
            "bare hash": bare_hashes(SERVER_CORES, seconds),
            "verify": verifying,
            "watched verify": watched(app, verifying),
        }
        rates = await interleave(plan, probes, unit="/s")
        times = await _refusals(client, refusals)
        pause = 2.0 if plan.quick else OTHERS_SECONDS
        target = await stack.enter_async_context(open_target(plan, servers))
        floods = {
            ALONE: calm(target, pause),
            "others in a flood": flooded(plan, target, pause, AT_ONCE_SECONDS),
            "others in a steady flood": flooded(plan, target, pause, STEADY_SECONDS),
        }
        waits = await interleave(plan, floods, unit="ms", warm_up=False)
        await look_up(plan, result)
    result.fact("connections of the flood", f"{target.connections:,}")
    result.table(rates)
    result.table(waits)
    result.claim("verify / bare hashes", rates.ratio("verify", "bare hash"), at_least=0.9)
    waited = rates.part("verify", "health p99")
    result.claim("/health p99 under verify", waited, at_most=25, unit="ms", every_round=True)
    stall = rates.part("watched verify", "stall")
    result.claim("longest stall of the loop under verify", stall, at_most=20, unit="ms", every_round=True)
    medians = {kind: statistics.median(taken) for kind, taken in times.items()}
    apart = (max(medians.values()) - min(medians.values())) * rates["bare hash"].median
    result.claim("medians of four kinds of refusal apart, of a hash", Figure.once(apart), at_most=0.02)
    hashed = replace(waits.part("others in a flood", "hashed"), counted=True)
    result.claim("guesses of a flood that were hashed", hashed, at_most=100, every_round=True)
    result.observed("guesses of a flood that were answered", waits.part("others in a flood", "answered"), "")
    for flood in ("flood", "steady flood"):
        slower = waits.tails(f"others in a {flood}", ALONE, 0.99, guard="p50")
        name = f"p99 of others' logins in a {flood} / alone"
        result.claim(name, slower, at_most=MOST_SLOWER, reason=_flood_reason(waits, f"others in a {flood}"))
    refused = replace(waits.part("others in a flood", "owner refused"), counted=True)
    result.claim("owner's logins that were refused in a flood", refused, at_most=0, every_round=True)
    owner = waits.part("others in a flood", "owner")
    result.claim("owner's slowest login from a known device in a flood", owner, at_most=OWNER_MS, unit="ms")
    return result


def _flood_reason(waits: Rounds, flood: str) -> str:
    work = waits.combined(flood, ALONE, lambda beside, alone: beside - alone, "process's CPU").median
    limit = MOST_SLOWER * percentile(waits.each(ALONE), 0.99)
    each, hashed = waits.each(flood), waits.part(flood, "hashed").median
    beside, alone = (number(waits.part(name, "p50").median) for name in (flood, ALONE))
    return (
        f"in a round the guesses bring {number(work)} s of work to the one core, {number(hashed)} hashes among it;"
        f" in all rounds {sum(took > limit for took in each)} of {len(each)} logins took longer than the bar;"
        f" half of all took {beside} ms or less, and alone {alone} ms"
    )


async def _refusals(client: httpx.AsyncClient, count: int) -> dict[str, list[float]]:
    """Seconds of refusals, by kind, each identifier REFUSALS_OF_ONE times."""
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for turn in range(count):
        # Each is first as often as the others: whatever was asked before leaves caches behind.
        for kind in KINDS[turn % len(KINDS) :] + KINDS[: turn % len(KINDS)]:
            password = "a wrong password" if kind == "wrong" else PASSWORD
            body = {"identifier": f"{kind}{turn // REFUSALS_OF_ONE}", "password": password}
            start = time.perf_counter()
            answer = await client.post(PATH, json=body)
            taken[kind].append(time.perf_counter() - start)
            assert answer.status_code == 403, answer.text
    return taken
