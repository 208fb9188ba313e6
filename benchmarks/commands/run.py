"""The bars of the command API: one worker on one core, each against its reference in the same run.

The server takes one core, its hashing threads too, PostgreSQL and the load generator the others.
"""

import asyncio
import itertools
import json
import os
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx
import psutil
from argon2 import PasswordHasher

from benchmarks.commands.muster import WATCH_PATH, without_outbox
from benchmarks.population import FIXED_HASH
from benchmarks.references.sql.direct import direct
from benchmarks.references.sql.pgbench import pgbench
from benchmarks.reporting.figures import figure_of, number, quotient
from benchmarks.reporting.result import Result
from benchmarks.reporting.samples import sampled
from benchmarks.running.collector import collecting
from benchmarks.running.cores import ALL_CORES, OTHER_CORES, SERVER_CORES, pinned
from benchmarks.running.load import closed_loop, open_loop, request
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Probe, Rounds, Sample, interleave
from benchmarks.running.servers import Servers, open_servers, pin_servers
from benchmarks.running.tokens import Access
from chassis.clock import utc_now
from chassis.identifiers import new_id
from chassis.settings import PostgresAddress
from command_api.users import statements
from local_stack.processes.http_process import HttpProcess

CONNECTIONS: Final = 16
#: /health requests beside the load, as from an orchestrator that probes far too often.
HEALTH_RATE: Final = 50
HEALTH_CONNECTIONS: Final = 8
#: A hash takes 20 ms, so two seconds of them are too few to show a difference of a tenth.
HASHING_TIMES: Final = 2
COPY_ROWS: Final = 20_000
USERS_TO_CHANGE: Final = 500
IMPORT_SECONDS: Final = 120

#: The app that hashes on its own core, and one that shares all cores with the rest.
ON_ALL_CORES: Final = " on all cores"
HASHING: Final = {"": SERVER_CORES, ON_ALL_CORES: ALL_CORES}

numbers = itertools.count(1)


async def run(plan: Plan) -> Result:
    """Measure registrations, changes, hashes and imports."""
    result = Result("Command API")
    result.note(
        "One worker on one core, its hashing threads too; PostgreSQL and the load generator have the others. 16 clients"
        " ask as fast as they are answered, and /health is asked 50 times a second beside them. Hashes are a fixed "
        "string on both sides except where Argon2id is named; the bare ones are made by as many threads as the app's, "
        "on the same core. Where all cores are named, the app has a hashing thread on each and shares it with "
        "PostgreSQL and the clients, while the bare hashes have all of them for themselves. Access is "
        "off, as the guide asks for no token, but where one is named."
    )
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(open_servers(plan, kafka=False))
        pin_servers(servers)
        stack.enter_context(pinned(OTHER_CORES))
        variables = {"GUIDE_DATABASE_URL": servers.url("command")}
        guide = await stack.enter_async_context(
            servers.app(
                "benchmarks.references.guide.app:create_app", cores=SERVER_CORES, variables=variables, ready="/health"
            )
        )
        muster = await stack.enter_async_context(
            servers.app("benchmarks.commands.muster:create_app", cores=SERVER_CORES, hot=True)
        )
        access = Access(plan.folder)
        guarded = await stack.enter_async_context(
            servers.app("benchmarks.commands.muster:create_app", cores=SERVER_CORES, variables=access.variables)
        )
        collector = await stack.enter_async_context(collecting())
        traced = await stack.enter_async_context(
            servers.app("benchmarks.commands.muster:create_app", cores=SERVER_CORES, variables=collector.variables)
        )
        bare = await stack.enter_async_context(
            servers.app(
                "benchmarks.commands.muster:create_app_without_outbox",
                cores=SERVER_CORES,
                variables={"OUTBOX_NOTIFY": "false"},
            )
        )
        hashing = {
            name: await stack.enter_async_context(hashing_app(servers, cores)) for name, cores in HASHING.items()
        }
        ids = await register_some(muster.port, USERS_TO_CHANGE)
        compared = probes(plan, servers, guide.port, muster, bare, hashing, ids)
        with_token = registration("/users", access.header())
        compared["register, token"] = load(guarded.port, with_token, 201, plan.seconds)
        compared["register, traced"] = load(traced.port, registration("/users"), 201, plan.seconds)
        # Each right behind what it is compared with: imports and COPY leave PostgreSQL with work.
        first = list(compared)
        order = sorted(first, key=lambda name: first.index(name.partition(",")[0]))
        runs = await interleave(plan, {name: compared[name] for name in order}, unit="/s")
    assert collector.taken_bytes, "what was measured was not traced"
    result.table(runs)
    claim(result, runs)
    return result


def hashing_app(servers: Servers, cores: frozenset[int]) -> AbstractAsyncContextManager[HttpProcess]:
    """Start the app as it is served, with as many hashing threads as it has cores."""
    # Set by number, because the app counts cores when it starts, before it is pinned to its own.
    variables = {"HASHING_THREADS": str(len(cores))}
    return servers.app("benchmarks.commands.muster:create_watched_app", cores=cores, variables=variables)


def probes(  # noqa: PLR0913, PLR0917 - what is compared
    plan: Plan,
    servers: Servers,
    guide: int,
    muster: HttpProcess,
    bare: HttpProcess,
    hashing: dict[str, HttpProcess],
    ids: list[str],
) -> dict[str, Probe]:
    """Return the probes of subjects and references."""
    address, seconds = servers.command, plan.seconds
    rows = 1000 if plan.quick else COPY_ROWS
    return {
        "guide": load(guide, registration("/users/"), 201, seconds),
        "register": load(muster.port, registration("/users"), 201, seconds),
        "without outbox": load(bare.port, registration("/users"), 201, seconds),
        "change": load(muster.port, profile_changes(ids), 200, seconds),
        "pgbench": by_pgbench(address, plan.folder, seconds),
        "by driver": by_driver(address, outbox=True, seconds=seconds / 2),
        "by driver without outbox": by_driver(address, outbox=False, seconds=seconds / 2),
        "bare hash": bare_hashes(SERVER_CORES, seconds * HASHING_TIMES),
        "register with hash": hashed(hashing[""], seconds * HASHING_TIMES),
        # In a probe of its own, because watching the loop takes two hundredths of the core.
        "watched with hash": watched(hashing[""], hashed(hashing[""], seconds)),
        f"bare hash{ON_ALL_CORES}": bare_hashes(ALL_CORES, seconds),
        f"register with hash{ON_ALL_CORES}": watched(hashing[ON_ALL_CORES], hashed(hashing[ON_ALL_CORES], seconds)),
        "import": imports(muster, rows),
        "copy": bare_copy(address, rows),
    }


def claim(result: Result, runs: Rounds) -> None:
    """Add the bars to the result."""
    result.claim("register with a token / without", runs.ratio("register, token", "register"), at_least=0.95)
    traced = runs.ratio("register, traced", "register")
    result.claim("register with 10 % of traces recorded / with none", traced, at_least=0.97)
    health = runs.ratio("register", "guide", "health p99", guard="health p50")
    result.claim("register / guide", runs.ratio("register", "guide"), at_least=6)
    result.claim("change of profile / guide", runs.ratio("change", "guide"), at_least=6)
    result.claim("register / pgbench", runs.ratio("register", "pgbench"), at_least=0.35)
    result.claim("/health p99 under registrations / guide's", health, at_most=0.25)
    of_bare = runs.ratio("register with hash", "bare hash")
    result.claim("register with Argon2id / bare hashes", of_bare, at_least=0.9, reason=hashing_reason(runs))
    waited = runs.part("register with hash", "health p99")
    result.claim("/health p99 under Argon2id", waited, at_most=25, unit="ms", every_round=True)
    stall = runs.part("watched with hash", "stall")
    result.claim("longest stall of the loop under Argon2id", stall, at_most=20, unit="ms", every_round=True)
    observe_all_cores(result, runs)
    memory = runs.part("import", "MB").values
    growth = figure_of([quotient(used, memory[0]) for used in memory])
    result.claim("memory of imports / of the first", growth, at_most=1.1, every_round=True)
    result.claim("import / COPY", runs.ratio("import", "copy"), at_least=0.25, reason=_import_reason(runs))
    result.claim("with the outbox row / without", runs.ratio("register", "without outbox"), at_least=0.9)
    by_driver = runs.ratio("by driver", "by driver without outbox")
    result.observed("its statement by the driver alone, with the outbox row / without", by_driver)


def hashing_reason(runs: Rounds) -> str:
    """Return the reason why registrations are slower than hashes."""
    names = ("bare hash", "register", "register with hash")
    bare, rest, both = (number(quotient(1000, runs[name].median)) for name in names)
    return f"a hash alone takes {bare} ms and a registration without one {rest} ms; together they take {both} ms"


def _import_reason(runs: Rounds) -> str:
    """Return the reason why an import is so much slower than COPY."""
    line, row = (number(quotient(1e6, runs[name].median)) for name in ("import", "copy"))
    return (
        f"in Python each line is read, checked, given ids, made an event and answered on the app's one core: it takes"
        f" {line} µs, and a row of COPY, which is ready when that begins, {row} µs"
    )


def observe_all_cores(result: Result, runs: Rounds) -> None:
    """Add what hashing reaches where no process has a core of its own."""
    probe = f"register with hash{ON_ALL_CORES}"
    shared = runs.ratio(probe, f"bare hash{ON_ALL_CORES}")
    result.observed(f"register with Argon2id / bare hashes{ON_ALL_CORES}", shared)
    result.observed(f"cores that the app was given{ON_ALL_CORES}", runs.part(probe, "cores"), "cores")
    result.observed(f"/health p99 under Argon2id{ON_ALL_CORES}", runs.part(probe, "health p99"), "ms")
    result.observed(f"longest stall of the loop under Argon2id{ON_ALL_CORES}", runs.part(probe, "stall"), "ms")


def registration(path: str, *headers: str) -> Callable[[], bytes]:
    """Yield requests that each register a new user."""

    def following() -> bytes:
        name = f"user{next(numbers)}x{os.getpid()}"
        document = {"email": f"{name}@example.com", "username": name, "password": "correct horse"}
        return request(path, *headers, method="POST", document=document)

    return following


def load(port: int, following: Callable[[], bytes], good: int, seconds: float) -> Probe:
    """Ask with CONNECTIONS clients as fast as they are answered, and for /health beside them."""

    async def run() -> Sample:
        health = request("/health")
        measured, beside = await asyncio.gather(
            closed_loop(port, following, connections=CONNECTIONS, seconds=seconds, good={good}),
            open_loop(port, lambda: health, rate=HEALTH_RATE, connections=HEALTH_CONNECTIONS, seconds=seconds * 0.9),
        )
        waits = {f"health {name}": beside.percentile(part) * 1000 for name, part in (("p50", 0.5), ("p99", 0.99))}
        return Sample(measured.rate, {**measured.sample().parts, **waits})

    return run


def hashed(app: HttpProcess, seconds: float) -> Probe:
    """Return a probe of registrations whose passwords are hashed."""
    return load(app.port, registration("/users"), 201, seconds)


def watched(app: HttpProcess, inner: Probe) -> Probe:
    """Return a probe with the longest stall of the app's loop meanwhile, and the cores that it used."""

    async def run() -> Sample:
        process = psutil.Process(app.pid)
        async with httpx.AsyncClient(base_url=app.url, trust_env=False) as client:
            await client.post(WATCH_PATH)
            used, began = process.cpu_times(), time.perf_counter()
            sample = await inner()
            now, seconds = process.cpu_times(), time.perf_counter() - began
            stall = float((await client.delete(WATCH_PATH)).text)
        cores = (now.user + now.system - used.user - used.system) / seconds
        return Sample(sample.value, {**sample.parts, "stall": stall, "cores": cores})

    return run


def profile_changes(ids: list[str]) -> Callable[[], bytes]:
    """Yield requests that change a profile, seldom the same user's at the same time."""
    around = itertools.cycle(ids)

    def following() -> bytes:
        document = {"display_name": f"Name {next(numbers)}"}
        return request(f"/users/{next(around)}/profile", method="PATCH", document=document)

    return following


async def register_some(port: int, count: int) -> list[str]:
    """Register users and return their ids."""
    following = registration("/users")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        ids = []
        for _ in range(count):
            body = following().partition(b"\r\n\r\n")[2]
            answer = await client.post("/users", content=body, headers={"Content-Type": "application/json"})
            ids.append(answer.json()["id"])
    return ids


def by_pgbench(address: PostgresAddress, folder: Path, seconds: float) -> Probe:
    """The registration's own SQL by pgbench, on the core that the API has otherwise.

    Ids rise with time and names with each client's count, as Muster's do: both append to the ends of their indexes.
    """
    script = folder / "register.sql"
    script.write_text(_as_script(statements.REGISTER.sql), encoding="utf-8")

    async def run() -> Sample:
        # Numbers start from the time, so that no round repeats another's names: no client does ten in a millisecond.
        start = time.time_ns() // 100_000
        return await pgbench(
            address, script, clients=CONNECTIONS, seconds=seconds, cores=SERVER_CORES, variables={"n": start}
        )

    return run


def _as_script(sql: str) -> str:
    """Return the statement with values that pgbench makes, of the same columns and sizes."""
    name = "'pgbench' || :client_id || '-' || :n"
    values = {
        "outbox_event_id": "uuidv7()", "outbox_subject_id": "uuidv7()",
        "outbox_value": "convert_to(repeat('x', 330), 'UTF8')",
        "outbox_headers": "convert_to(repeat('x', 428), 'UTF8')", "user_id": "uuidv7()", "user_version": "1",
        "user_event_id": "uuidv7()", "user_status": "'active'",
        "user_email": f"{name} || '@example.com'", "user_email_key": f"{name} || '@example.com'",
        "user_email_verified": "false", "user_username": name, "user_username_key": name, "user_display_name": "NULL",
        "user_attributes": "'{}'", "user_password_hash": f"'{FIXED_HASH}'", "user_created_at": "now()",
        "user_updated_at": "now()", "user_password_set_by": "uuidv7()",
    }  # fmt: skip
    for index in range(len(statements.REGISTER.names), 0, -1):
        sql = sql.replace(f"${index}::", f"({values[statements.REGISTER.names[index - 1]]})::")
    return "\\set n :n + 1\n" + " ".join(sql.split()) + ";\n"


def by_driver(address: PostgresAddress, *, outbox: bool, seconds: float) -> Probe:
    """Return a probe of the registration's statement by asyncpg alone, with its outbox row or without."""
    statement = statements.REGISTER if outbox else without_outbox(statements.REGISTER)
    return partial(
        direct, address, statement.sql, lambda: statement.pick(_values()), clients=CONNECTIONS, seconds=seconds
    )


def _values() -> dict[str, Any]:
    name, identifier, now = f"direct{next(numbers)}x{os.getpid()}", new_id(), utc_now()
    return {
        "outbox_event_id": new_id(), "outbox_subject_id": identifier, "outbox_value": b"x" * 330,
        "outbox_headers": b"x" * 428,
        "user_id": identifier, "user_version": 1, "user_event_id": new_id(), "user_status": "active",
        "user_email": f"{name}@example.com", "user_email_key": f"{name}@example.com", "user_email_verified": False,
        "user_username": name, "user_username_key": name, "user_display_name": None, "user_attributes": "{}",
        "user_password_hash": FIXED_HASH, "user_password_set_by": new_id(), "user_created_at": now,
        "user_updated_at": now,
    }  # fmt: skip


def bare_hashes(cores: frozenset[int], seconds: float) -> Probe:
    """Return a probe of Argon2id in threads alone, one for each core that the app may use."""

    async def run() -> Sample:
        hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        start = time.perf_counter()
        end = start + seconds

        def hash_until() -> int:
            done = 0
            while time.perf_counter() < end:
                hasher.hash("correct horse")
                done += 1
            return done

        with pinned(cores):
            done = await asyncio.gather(*(asyncio.to_thread(hash_until) for _ in cores))
        # Each thread finishes the hash that it has begun.
        return Sample(sum(done) / (time.perf_counter() - start))

    return run


def imports(app: HttpProcess, rows: int) -> Probe:
    """Return a probe of an import: two requests of half of the rows each, with hashes; and the peak of memory."""

    async def run() -> Sample:
        bodies = [_import_body(rows // 2) for _ in range(2)]
        assert app.pid is not None
        client = httpx.AsyncClient(base_url=app.url, trust_env=False)
        async with sampled(app.pid) as usage, client:
            started = time.perf_counter()
            for body in bodies:
                headers = {"Content-Type": "application/x-ndjson"}
                answer = await client.post("/users/import", content=body, headers=headers, timeout=IMPORT_SECONDS)
                assert json.loads(answer.content.splitlines()[-1])["failed"] == 0
            rate = rows / (time.perf_counter() - started)
        return Sample(rate, {"MB": usage.peak_bytes / 1e6})

    return run


def _import_body(count: int) -> bytes:
    lines = []
    for _ in range(count):
        name = f"import{next(numbers)}x{os.getpid()}"
        lines.append(json.dumps({"email": f"{name}@example.com", "username": name, "password_hash": FIXED_HASH}))
    return "\n".join(lines).encode()


def bare_copy(address: PostgresAddress, rows: int) -> Probe:
    """Return a probe of COPY of the same rows into the same two tables, on all cores."""

    async def run() -> Sample:
        made = [_values() for _ in range(rows)]
        tables = {
            "users": [name for name in made[0] if name.startswith("user_")],
            "outbox": [name for name in made[0] if name.startswith("outbox_")],
        }
        connection = await asyncpg.connect(**address.connect_arguments)
        records = {table: [tuple(row[name] for name in names) for row in made] for table, names in tables.items()}
        with pinned(ALL_CORES):
            started = time.perf_counter()
            async with connection.transaction():
                for table, names in tables.items():
                    columns = [name.partition("_")[2] for name in names]
                    await connection.copy_records_to_table(table, records=records[table], columns=columns)
            seconds = time.perf_counter() - started
        await connection.close()
        return Sample(rows / seconds)

    return run
