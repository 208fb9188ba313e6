"""The bars of `POST /credentials/verify`: its rate beside bare hashes, equal times of all refusals, a flood of guesses.

One worker on one core, its hashing thread too, PostgreSQL and the load generator on the others, as for commands.
"""

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

import httpx

from benchmarks.commands.run import bare_hashes, hashing_app, load, watched
from benchmarks.reporting.figures import Figure
from benchmarks.reporting.result import Result
from benchmarks.running.cores import OTHER_CORES, SERVER_CORES, pinned
from benchmarks.running.load import open_loop, request
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Probe, Sample, interleave
from benchmarks.running.servers import open_servers, pin_servers

PATH: Final = "/credentials/verify"
PASSWORD: Final = "the password of every user here"  # noqa: S105 - of a benchmark
#: More than clients, so that no two of them wait for one another.
USERS: Final = 40
#: A hash takes 20 ms, so two seconds of them are too few to show a difference of a tenth.
TIMES: Final = 2
REFUSALS, REFUSALS_QUICK = 1_000, 20
#: Fewer than the failures after which an identifier is refused unread.
REFUSALS_OF_ONE: Final = 9
KINDS: Final = ("wrong", "unknown", "deactivated", "erased")
#: Guesses at one account that come as fast as the sockets take them.
GUESSES, GUESSES_QUICK = 10_000, 500
GUESSING_CONNECTIONS: Final = 1_000
#: Logins of others a second: a tenth of what the core can hash.
OTHERS_RATE: Final = 5
OTHERS_SECONDS: Final = 10.0
LOST_SECONDS: Final = 120.0
#: Up to a second nobody feels that a page has stopped: what "at once" means in a flood.
OWNER_MS: Final = 1000

_FLOODED: Final = (
    "The one worker reads each of the flood's requests on the core that it hashes on, before it refuses it."
)


async def run(plan: Plan) -> Result:
    """Measure verifications, refusals and a flood."""
    result = Result("Credentials")
    result.note(
        "One worker on one core with one hashing thread; PostgreSQL and the load generator have the others; access is "
        "off. Refusals are asked one after the other, the four kinds in turns. The flood is of guesses at one account "
        "over a thousand connections, while others log in five times a second, and the owner from a known device."
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
        await _register(client, "known", USERS)
        for kind in ("wrong", "deactivated", "erased"):
            await _register(client, kind, -(-refusals // REFUSALS_OF_ONE))
        seconds = plan.seconds * TIMES
        verifying = load(app.port, _logins(), 200, seconds)
        probes = {
            "bare hash": bare_hashes(SERVER_CORES, seconds),
            "verify": verifying,
            "watched verify": watched(app, verifying),
        }
        rates = await interleave(plan, probes, unit="/s")
        times = await _refusals(client, refusals)
        pause = 2.0 if plan.quick else OTHERS_SECONDS
        floods = {
            "others alone": _others(app.port, pause),
            "others in a flood": _flooded(plan, app.port, client, pause),
        }
        waits = await interleave(plan, floods, unit="ms", warm_up=False)
    result.table(rates)
    result.table(waits)
    result.claim("verify / bare hashes", rates.ratio("verify", "bare hash"), at_least=0.9)
    result.claim("/health p99 under verify", rates.part("verify", "health p99"), at_most=25, unit="ms")
    stall = rates.part("watched verify", "stall")
    result.claim("longest stall of the loop under verify", stall, at_most=20, unit="ms", every_round=True)
    medians = {kind: statistics.median(taken) for kind, taken in times.items()}
    apart = (max(medians.values()) - min(medians.values())) * rates["bare hash"].median
    result.claim("medians of four kinds of refusal apart, of a hash", Figure.once(apart), at_most=0.02)
    hashed = waits.part("others in a flood", "hashed").values
    result.claim("guesses of a flood that were hashed", Figure(hashed, counted=True), at_most=100, every_round=True)
    slower = waits.ratio("others in a flood", "others alone")
    result.claim("p99 of others' logins in a flood / alone", slower, at_most=1.5, reason=_FLOODED)
    owner = waits.part("others in a flood", "owner")
    result.claim("owner's login from a known device in a flood", owner, at_most=OWNER_MS, unit="ms", reason=_FLOODED)
    return result


async def _register(client: httpx.AsyncClient, kind: str, count: int) -> None:
    """Register users of a kind, and make them what it says."""
    for number in range(count):
        name = f"{kind}{number}"
        body = {"email": f"{name}@example.com", "username": name, "password": PASSWORD}
        user = (await client.post("/users", json=body)).raise_for_status().json()["id"]
        if kind == "deactivated":
            (await client.post(f"/users/{user}/deactivate")).raise_for_status()
        if kind == "erased":
            (await client.delete(f"/users/{user}")).raise_for_status()


def _login(name: str, password: str = PASSWORD) -> bytes:
    return request(PATH, method="POST", document={"identifier": name, "password": password})


def _logins(first: int = 0) -> Callable[[], bytes]:
    """Requests with the right password, of one user after the other."""
    around = itertools.cycle([_login(f"known{number}") for number in range(first, USERS)])
    return lambda: next(around)


async def _refusals(client: httpx.AsyncClient, count: int) -> dict[str, list[float]]:
    """Seconds of refusals, by kind, each identifier REFUSALS_OF_ONE times."""
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(count):
        # Each is first as often as the others: whatever was asked before leaves caches behind.
        for kind in KINDS[number % len(KINDS) :] + KINDS[: number % len(KINDS)]:
            password = "a wrong password" if kind == "wrong" else PASSWORD
            body = {"identifier": f"{kind}{number // REFUSALS_OF_ONE}", "password": password}
            start = time.perf_counter()
            answer = await client.post(PATH, json=body)
            taken[kind].append(time.perf_counter() - start)
            assert answer.status_code == 403, answer.text
    return taken


def _others(port: int, seconds: float) -> Probe:
    """Logins of others at a rate that leaves the core time; the figure is their p99."""

    async def run() -> Sample:
        measured = await open_loop(
            port, _logins(USERS // 2), rate=OTHERS_RATE, connections=OTHERS_RATE, seconds=seconds
        )
        return Sample(measured.percentile(0.99) * 1000, {"p50": measured.percentile(0.5) * 1000})

    return run


def _flooded(plan: Plan, port: int, client: httpx.AsyncClient, seconds: float) -> Probe:
    """The same while one account is guessed at, another one each time."""
    targets = itertools.count()
    guesses = GUESSES_QUICK if plan.quick else GUESSES

    async def run() -> Sample:
        name = f"known{next(targets)}"
        first = await client.post(PATH, json={"identifier": name, "password": PASSWORD})
        body = {"identifier": name, "password": PASSWORD, "device_token": first.json()["device_token"]}

        async def owner() -> float:
            start = time.perf_counter()
            (await client.post(PATH, json=body)).raise_for_status()
            return (time.perf_counter() - start) * 1000

        guess = _login(name, "a guess")
        flood = open_loop(
            port,
            lambda: guess,
            rate=guesses,  # within a second
            connections=min(guesses, GUESSING_CONNECTIONS),
            seconds=1,
            good={403, 429, 503},
        )
        flooded, others, took = await asyncio.gather(flood, _others(port, seconds)(), owner())
        return Sample(others.value, {**others.parts, "hashed": flooded.statuses.get(403, 0), "owner": took})

    return run
