"""Lists of users, looks by address and registrations, beside Keycloak's for administrators, on one PostgreSQL.

Both have as many users, and both ask for a token, which all clients share. They are asked twice: with a tenth of the
plan's users, and with all of them.
"""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from benchmarks.population import fill_command, fill_query, numbered
from benchmarks.query.run import cursors_at
from benchmarks.references.keycloak.server import DATABASE, REALM, START_SECONDS, VERSION, Keycloak
from benchmarks.reporting.figures import number, quotient
from benchmarks.reporting.result import Result
from benchmarks.reporting.samples import cpu_seconds
from benchmarks.running.cores import ALL_CORES
from benchmarks.running.load import BadAnswersError, Next, closed_loop, request
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import NoFigureError, Probe, Rounds, Sample, interleave
from benchmarks.running.servers import Servers, open_servers
from benchmarks.running.tokens import Access
from local_stack.processes.http_process import HttpProcess

CLIENTS: Final = 8
LOOK_SECONDS: Final = 0.2
FILL_SECONDS: Final = 600.0
#: Seconds of one probe at most: there are eight, and each answers some dozens of requests at the least.
PROBE_SECONDS: Final = 1.5
#: The JVM compiles what it does often: Keycloak alone is asked so many rounds before both take turns.
WARM_ROUNDS: Final = 8
#: Our query API has as many workers as Keycloak's threads have cores.
CORES: Final = len(ALL_CORES)
#: Different users looked up by their addresses.
ADDRESSES: Final = 2000
PAGE: Final = 50
#: Kinds of request, and the bar of each.
BARS: Final = {"list": 20.0, "page 2": None, "search by address": 20.0, "create": None}
_ADMIN: Final = f"/admin/realms/{REALM}/users"
#: Users as its administrator's interface makes them, with the addresses and names of ours (benchmarks/population.py).
_FILL: Final = f"""
INSERT INTO user_entity (id, email, email_constraint, email_verified, enabled, realm_id, username, first_name,
    last_name, created_timestamp, not_before)
SELECT gen_random_uuid()::text, email, email, true, n % 50 <> 0, (SELECT id FROM realm WHERE name = '{REALM}'),
    substr(md5((n * 7::bigint)::text), 1, 8) || n, 'User', 'Number ' || n, 1735689600000 + n * 30000::bigint, 0
FROM (SELECT n, substr(md5(n::text), 1, 10) || n || '@example.com' AS email
    FROM generate_series($1::int, $2::int) n) people
"""  # noqa: S608 - constants of ours

numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Sides:
    """Both, as they run."""

    servers: Servers
    keycloak: Keycloak
    query: HttpProcess
    command: HttpProcess
    access: Access


async def measure(plan: Plan, result: Result) -> None:
    """Ask both in turns, with few users and with many.

    Raises:
        LocalStackError: Keycloak cannot be had, or does not start.
    """
    result.fact("Keycloak", f"{VERSION}, in production mode but for TLS, on the same PostgreSQL")
    result.note(
        f"Lists: {CLIENTS} clients ask as fast as they are answered, with a token, for a page of {PAGE}, for the next, "
        "for one user by a whole address, and to register somebody without a hash. All share the machine: Keycloak's "
        "threads have every core, our query API has a worker for each (`WORKERS`), our command API is one process."
    )
    sizes = (plan.users // 10, plan.users)
    result.fact("Users on both sides", " and ".join(f"{size:,}" for size in sizes))
    async with _both(plan) as sides:
        for before, size in zip((0, *sizes), sizes, strict=False):
            plan.say(f"filling {size:,} users on both sides")
            addresses = await _fill(sides.servers, before + 1, size)
            probes = await _probes(plan, sides, addresses)
            if not (plan.quick or before):
                theirs = {name: probe for name, probe in probes.items() if name not in BARS}
                warm = replace(plan, rounds=WARM_ROUNDS)
                await interleave(warm, theirs, unit="requests/s, to warm up", warm_up=False)
            rounds = await interleave(plan, probes, unit="requests/s")
            _tell(result, rounds, size)


@asynccontextmanager
async def _both(plan: Plan) -> AsyncIterator[Sides]:
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(open_servers(plan, kafka=False))
        plan.say("starting Keycloak")
        await servers.postgres.create_database(DATABASE)
        keycloak = stack.enter_context(await asyncio.to_thread(_start, plan, servers))
        await _ready(keycloak)
        access = Access(plan.folder)
        variables = {**access.variables, "WORKERS": str(CORES)}
        query = await stack.enter_async_context(servers.api("query", variables=variables))
        command = await stack.enter_async_context(
            servers.app("benchmarks.commands.muster:create_app", variables=access.variables)
        )
        yield Sides(servers, keycloak, query, command, access)


async def _probes(plan: Plan, sides: Sides, addresses: list[str]) -> dict[str, Probe]:
    [cursor, *_] = await cursors_at(sides.servers, PAGE)
    admin = f"authorization: Bearer {await asyncio.to_thread(sides.keycloak.administrator)}"
    ours = _of_muster(sides.access.header(), cursor, addresses)
    theirs = _of_keycloak(admin, addresses)
    probes = {}
    for kind in BARS:
        api = sides.command if kind == "create" else sides.query
        probes[kind] = _with_cpu(api, _asking(plan, api.port, ours[kind]))
        probes[f"Keycloak, {kind}"] = _asking(plan, sides.keycloak.port, theirs[kind])
    return probes


def _tell(result: Result, rounds: Rounds, size: int) -> None:
    for name in rounds.samples:
        result.measured(f"{name}, {size:,} users", rounds[name], rounds.unit)
    for kind, bar in BARS.items():
        title, ratio = f"{kind} / Keycloak, {size:,} users", rounds.ratio(kind, f"Keycloak, {kind}")
        if bar is None:
            result.observed(title, ratio)
        else:
            result.claim(title, ratio, at_least=bar, reason=asking_reason(rounds, kind, bar))


def asking_reason(rounds: Rounds, kind: str, bar: float, cores: int = CORES) -> str:
    """Return the reason why answers cannot come as many times faster than Keycloak's as the bar expects."""
    theirs, each = rounds[f"Keycloak, {kind}"].median, rounds.part(kind, "cpu").median
    left = quotient(cores * 1e6, bar * theirs)
    return (
        f"{bar:g} times Keycloak's {number(theirs)} requests a second leave {number(left)} µs of the {cores} cores for"
        f" each; our processes take {number(each * 1e6)}, and share the cores with PostgreSQL and the clients"
    )


def _start(plan: Plan, servers: Servers) -> Keycloak:
    return Keycloak("http://localhost", plan.folder, servers.postgres.address)


async def _ready(keycloak: Keycloak) -> None:
    end = time.monotonic() + START_SECONDS
    while not await keycloak.answers():
        if time.monotonic() > end:
            raise NoFigureError(f"it did not answer within {START_SECONDS} s")
        await asyncio.sleep(LOOK_SECONDS)
    await asyncio.to_thread(keycloak.set_up)


async def _fill(servers: Servers, first: int, users: int) -> list[str]:
    """Put users into all three databases, from the `first` on until there are so many; return some addresses."""
    async with servers.session("command") as command, servers.session("query") as query:
        await asyncio.gather(fill_command(command, users, first=first), fill_query(query, users, first=first))
        step = max(1, users // ADDRESSES)
        rows = await query.fetch("SELECT email_key FROM users_g1 WHERE hashtext(id::text) % $1 = 0", step)
    theirs = replace(servers, databases={**servers.databases, "command": DATABASE})
    async with theirs.session("command") as connection:
        for statement in (numbered(_FILL, first, users), "VACUUM ANALYZE user_entity", "CHECKPOINT"):
            await connection.execute(statement, timeout=FILL_SECONDS)
    return [row["email_key"] for row in rows]


def _of_muster(token: str, cursor: str, addresses: list[str]) -> Mapping[str, Next]:
    looks = itertools.cycle([request(f"/users?email={address}", token) for address in addresses])
    return {
        "list": lambda: request(f"/users?limit={PAGE}", token),
        "page 2": lambda: request(f"/users?limit={PAGE}&cursor={cursor}", token),
        "search by address": lambda: next(looks),
        "create": lambda: request(
            "/users", token, method="POST", document={**_somebody(), "password": "correct horse"}
        ),
    }


def _of_keycloak(token: str, addresses: list[str]) -> Mapping[str, Next]:
    # Brief ones, which its documentation advises where no attributes are wanted.
    brief = f"{_ADMIN}?briefRepresentation=true"
    looks = itertools.cycle([request(f"{brief}&exact=true&email={address}", token) for address in addresses])
    return {
        "list": lambda: request(f"{brief}&first=0&max={PAGE}", token),
        "page 2": lambda: request(f"{brief}&first={PAGE}&max={PAGE}", token),
        "search by address": lambda: next(looks),
        "create": lambda: request(_ADMIN, token, method="POST", document={**_somebody(), "enabled": True}),
    }


def _somebody() -> dict[str, str]:
    name = f"somebody{next(numbers)}x{os.getpid()}"
    return {"username": name, "email": f"{name}@example.com"}


def _asking(plan: Plan, port: int, following: Next) -> Probe:
    async def probe() -> Sample:
        seconds = min(plan.seconds, PROBE_SECONDS)
        try:
            measured = await closed_loop(port, following, connections=CLIENTS, seconds=seconds, good=(200, 201))
        except (BadAnswersError, ConnectionError) as error:
            raise NoFigureError(str(error)) from error
        return measured.sample()

    return probe


def _with_cpu(api: HttpProcess, probe: Probe) -> Probe:
    """The same; part `cpu` is the seconds of processor that the API's processes take for a request."""
    assert api.pid is not None
    pid = api.pid

    async def counted() -> Sample:
        began, before = time.perf_counter(), cpu_seconds(pid)
        sample = await probe()
        cores = (cpu_seconds(pid) - before) / (time.perf_counter() - began)
        return replace(sample, parts={**sample.parts, "cpu": quotient(cores, sample.value)})

    return counted
