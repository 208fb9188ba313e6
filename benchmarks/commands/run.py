"""The bars of the command API: one worker on one core, each against its reference in the same run, A B A B.

The server takes one core, PostgreSQL and the load generator the other (but for the hashes, which get both). Ratios
count; rates are the machine's.

    python -m benchmarks.commands.run [--rounds 3] [--seconds 4]
"""

import argparse
import asyncio
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import uvloop
from argon2 import PasswordHasher
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from benchmarks.commands.guide import FIXED_HASH
from benchmarks.query.load import closed_loop, open_loop, request
from chassis.identifiers import new_id
from chassis.settings import PostgresAddress
from command_api.migrate import migrate
from command_api.users import statements
from local_stack.ports import free_port
from local_stack.postgres import PostgresServer, find_binaries
from local_stack.unprivileged import unprivileged_account
from tests.infrastructure import throwaway_folder

DATABASE = "muster_command"
SERVER_CORE, OTHER_CORE = {0}, {1}
CONNECTIONS = 16
READY_SECONDS = 60
#: Beside the load, as a probe of an orchestrator that is far too eager.
HEALTH_RATE = 50
COPY_ROWS = 20_000
OPTIONS = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")

numbers = itertools.count(1)


@dataclass
class Run:
    """One measurement: good answers a second, and /health meanwhile."""

    rate: float
    health_p99: float = 0.0


Probe = Callable[[], Awaitable[Run]]


@asynccontextmanager
async def server(factory: str, environment: dict[str, str], cores: set[int]) -> AsyncIterator[int]:
    """One uvicorn worker; gives its port when it answers. Its log goes to a file, as in production."""
    port = free_port()
    with tempfile.TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "uvicorn", factory, "--factory", "--port", str(port), *OPTIONS),
            env={**os.environ, **environment},
            stderr=log,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        try:
            await until_it_answers(port)
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            await process.wait()


async def until_it_answers(port: int) -> None:
    """Wait until /health is served."""
    deadline = time.monotonic() + READY_SECONDS
    async with httpx.AsyncClient(trust_env=False) as client:
        while time.monotonic() < deadline:
            try:
                if (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.1)
    raise TimeoutError("the server did not become ready")


def send(method: str, path: str, document: dict[str, Any]) -> bytes:
    """The bytes of a request with a JSON body."""
    body = json.dumps(document).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    )
    return head.encode() + b"\r\n\r\n" + body


def registration(path: str) -> Callable[[], bytes]:
    """Requests that register somebody new each time."""

    def following() -> bytes:
        name = f"user{next(numbers)}x{os.getpid()}"
        return send("POST", path, {"email": f"{name}@example.com", "username": name, "password": "correct horse"})

    return following


def load(port: int, following: Callable[[], bytes], good: int, seconds: float) -> Probe:
    """CONNECTIONS clients as fast as they are answered, and /health beside them."""

    async def run() -> Run:
        health = request("/health")
        measured, beside = await asyncio.gather(
            closed_loop(port, following, connections=CONNECTIONS, seconds=seconds),
            open_loop(port, lambda: health, rate=HEALTH_RATE, connections=8, seconds=seconds * 0.9),
        )
        assert set(measured.statuses) == {good}, measured.statuses
        return Run(measured.statuses[good] / seconds, beside.percentile(0.99))

    return run


def profile_changes(ids: list[str]) -> Callable[[], bytes]:
    """Requests that change somebody's profile, seldom the same person's at once."""
    around = itertools.cycle(ids)
    return lambda: send("PATCH", f"/users/{next(around)}/profile", {"display_name": f"Name {next(numbers)}"})


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


def pgbench(address: PostgresAddress, folder: Path, seconds: float) -> Probe:
    """The registration's own SQL by pgbench, with CONNECTIONS clients."""
    script = folder / "register.sql"
    script.write_text(_as_script(statements.REGISTER.sql))
    account = unprivileged_account()
    program = find_binaries(account) / "pgbench"

    async def run() -> Run:
        process = await asyncio.create_subprocess_exec(
            str(program), "-n", "-M", "prepared", "-c", str(CONNECTIONS), "-j", "1", "-T", str(max(1, int(seconds))),
            "-f", str(script), "-h", address.server, "-p", str(address.port), "-U", address.user, address.database,
            env={**os.environ, "PGPASSWORD": address.password.get_secret_value()},
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=lambda: os.sched_setaffinity(0, SERVER_CORE),
        )  # fmt: skip
        out, _ = await process.communicate()
        [line] = [line for line in out.decode().splitlines() if line.startswith("tps")]
        return Run(float(line.split()[2]))

    return run


def _as_script(sql: str) -> str:
    """The statement with values that pgbench makes; the shape, the columns and their sizes stay."""
    values = {
        "outbox_event_id": "gen_random_uuid()", "outbox_user_id": "gen_random_uuid()", "outbox_version": "1",
        "outbox_type": "'muster.user.registered.v1'", "outbox_time": "now()", "outbox_correlation_id": "'c' || :n",
        "outbox_causation_id": "'0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3a'", "outbox_traceparent": "NULL",
        "outbox_value": "convert_to(repeat('x', 330), 'UTF8')", "user_id": "gen_random_uuid()", "user_version": "1",
        "user_event_id": "gen_random_uuid()", "user_status": "'active'",
        "user_email": "'pgbench' || :n || '-' || :client_id || '@example.com'",
        "user_email_key": "('pgbench' || :n || '-' || :client_id || '@example.com')", "user_email_verified": "false",
        "user_username": "'pgbench' || :n || '-' || :client_id",
        "user_username_key": "('pgbench' || :n || '-' || :client_id)", "user_display_name": "NULL",
        "user_attributes": "'{}'", "user_password_hash": f"'{FIXED_HASH}'", "user_created_at": "now()",
        "user_updated_at": "now()",
    }  # fmt: skip
    for index in range(len(statements.REGISTER.names), 0, -1):
        sql = sql.replace(f"${index}::", f"({values[statements.REGISTER.names[index - 1]]})::")
    return "\\set n random(1, 9000000000000000)\n" + " ".join(sql.split()) + ";\n"


def direct(address: PostgresAddress, *, outbox: bool, seconds: float) -> Probe:
    """The registration's statement by asyncpg alone, with its outbox row and without."""
    statement = statements.REGISTER
    sql = statement.sql
    if not outbox:
        start, end = sql.index("INSERT INTO users"), sql.index(" RETURNING users.id")
        sql, used = sql[start:end], [name for name in statement.names if name.startswith("user_")]
        for position, name in enumerate(used, start=1):
            sql = sql.replace(f"${statement.names.index(name) + 1}::", f"$#{position}::")
        sql = sql.replace("$#", "$")

    async def run() -> Run:
        pool = await asyncpg.create_pool(**address.connect_arguments, min_size=CONNECTIONS, max_size=CONNECTIONS)
        end = time.perf_counter() + seconds
        done = await asyncio.gather(*(_insert_until(pool, sql, end, outbox=outbox) for _ in range(CONNECTIONS)))
        await pool.close()
        return Run(sum(done) / seconds)

    return run


async def _insert_until(pool: Any, sql: str, end: float, *, outbox: bool) -> int:
    done = 0
    async with pool.acquire() as connection:
        while time.perf_counter() < end:
            values = _values()
            names = statements.REGISTER.names
            chosen = names if outbox else [name for name in names if name.startswith("user_")]
            await connection.execute(sql, *(values[name] for name in chosen))
            done += 1
    return done


def _values() -> dict[str, Any]:
    from chassis.clock import utc_now  # noqa: PLC0415 - used here alone

    name, identifier, now = f"direct{next(numbers)}x{os.getpid()}", new_id(), utc_now()
    return {
        "outbox_event_id": new_id(), "outbox_user_id": identifier, "outbox_version": 1,
        "outbox_type": "muster.user.registered.v1", "outbox_time": now, "outbox_correlation_id": str(identifier),
        "outbox_causation_id": str(identifier), "outbox_traceparent": None, "outbox_value": b"x" * 330,
        "user_id": identifier, "user_version": 1, "user_event_id": new_id(), "user_status": "active",
        "user_email": f"{name}@example.com", "user_email_key": f"{name}@example.com", "user_email_verified": False,
        "user_username": name, "user_username_key": name, "user_display_name": None, "user_attributes": "{}",
        "user_password_hash": FIXED_HASH, "user_created_at": now, "user_updated_at": now,
    }  # fmt: skip


def bare_hashes(seconds: float) -> Probe:
    """Argon2id by threads alone, one a core, on the cores that the API may use."""

    async def run() -> Run:
        os.sched_setaffinity(0, SERVER_CORE | OTHER_CORE)
        hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        end = time.perf_counter() + seconds

        def hash_until() -> int:
            done = 0
            while time.perf_counter() < end:
                hasher.hash("correct horse")
                done += 1
            return done

        done = await asyncio.gather(*(asyncio.to_thread(hash_until) for _ in SERVER_CORE | OTHER_CORE))
        os.sched_setaffinity(0, OTHER_CORE)
        return Run(sum(done) / seconds)

    return run


def imports(port: int) -> Probe:
    """COPY_ROWS pre-hashed users through POST /users/import, two requests."""

    async def run() -> Run:
        started = time.perf_counter()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=120) as client:
            for body in bodies:
                answer = await client.post("/users/import", content=body, headers=headers)
                assert json.loads(answer.content.splitlines()[-1])["failed"] == 0
        return Run(COPY_ROWS / (time.perf_counter() - started))

    async def prepared() -> Run:
        bodies[:] = [_import_body(COPY_ROWS // 2) for _ in range(2)]
        return await run()

    headers, bodies = {"Content-Type": "application/x-ndjson"}, list[bytes]()
    return prepared


def _import_body(count: int) -> bytes:
    lines = []
    for _ in range(count):
        name = f"import{next(numbers)}x{os.getpid()}"
        lines.append(json.dumps({"email": f"{name}@example.com", "username": name, "password_hash": FIXED_HASH}))
    return "\n".join(lines).encode()


def bare_copy(address: PostgresAddress) -> Probe:
    """The same rows by COPY into the same two tables."""

    async def run() -> Run:
        rows = [_values() for _ in range(COPY_ROWS)]
        tables = {
            "users": [name for name in rows[0] if name.startswith("user_")],
            "outbox": [name for name in rows[0] if name.startswith("outbox_")],
        }
        connection = await asyncpg.connect(**address.connect_arguments)
        records = {table: [tuple(row[name] for name in names) for row in rows] for table, names in tables.items()}
        started = time.perf_counter()
        async with connection.transaction():
            for table, names in tables.items():
                columns = [name.partition("_")[2] for name in names]
                await connection.copy_records_to_table(table, records=records[table], columns=columns)
        seconds = time.perf_counter() - started
        await connection.close()
        return Run(COPY_ROWS / seconds)

    return run


async def measure(probes: dict[str, Probe], rounds: int) -> dict[str, Run]:
    """Every probe in every round; of each the run with the median rate."""
    runs: dict[str, list[Run]] = {name: [] for name in probes}
    for number in range(rounds):
        for name, probe in probes.items():
            run = await probe()
            runs[name].append(run)
            told = f"round {number + 1}: {name}: {run.rate:,.0f}/s, /health p99 {run.health_p99 * 1000:.1f} ms"
            print(told, file=sys.stderr)
    return {name: sorted(found, key=lambda run: run.rate)[len(found) // 2] for name, found in runs.items()}


async def main(rounds: int, seconds: float) -> dict[str, float]:
    """Everything; returns the ratios."""
    folder = throwaway_folder()
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        tuned = {"shared_buffers": "512MB", "max_wal_size": "4GB"}
        postgres = await stack.enter_async_context(PostgresServer(folder / "postgres", settings=tuned))
        await postgres.create_database(DATABASE)
        where = postgres.address
        address = PostgresAddress(
            server=where.host, port=where.port, user=where.user, password=SecretStr(where.password), database=DATABASE
        )
        await asyncio.to_thread(migrate, address)
        assert postgres.pid is not None
        os.sched_setaffinity(postgres.pid, OTHER_CORE)
        os.sched_setaffinity(0, OTHER_CORE)
        return await compare(stack, address, folder, rounds, seconds)


async def compare(
    stack: AsyncExitStack, address: PostgresAddress, folder: Path, rounds: int, seconds: float
) -> dict[str, float]:
    """Measure all and give the ratios."""
    environment = {
        "COMMAND_POSTGRES_USER": address.user,
        "COMMAND_POSTGRES_PASSWORD": address.password.get_secret_value(),
        "COMMAND_POSTGRES_SERVER": address.server,
        "COMMAND_POSTGRES_PORT": str(address.port),
        "COMMAND_POSTGRES_DB": DATABASE,
        "IDEMPOTENCY_SECRET": "a secret of thirty-two characters",
        "GUIDE_DATABASE_URL": address.url.render_as_string(hide_password=False),
    }
    both = SERVER_CORE | OTHER_CORE
    guide = await stack.enter_async_context(server("benchmarks.commands.guide:create_app", environment, SERVER_CORE))
    muster = await stack.enter_async_context(server("benchmarks.commands.muster:create_app", environment, SERVER_CORE))
    hashing = await stack.enter_async_context(server("cli.serve:command_app", environment, both))
    ids = await register_some(muster, 500)
    runs = await measure(
        {
            "guide": load(guide, registration("/users/"), 201, seconds),
            "register": load(muster, registration("/users"), 201, seconds),
            "change": load(muster, profile_changes(ids), 200, seconds),
            "pgbench": pgbench(address, folder, seconds),
            "with outbox": direct(address, outbox=True, seconds=seconds),
            "without outbox": direct(address, outbox=False, seconds=seconds),
            "bare hash": bare_hashes(seconds),
            "register with hash": load(hashing, registration("/users"), 201, seconds),
            "import": imports(hashing),
            "copy": bare_copy(address),
        },
        rounds,
    )
    return {
        "register / guide": runs["register"].rate / runs["guide"].rate,
        "change of profile / guide": runs["change"].rate / runs["guide"].rate,
        "register / pgbench": runs["register"].rate / runs["pgbench"].rate,
        "/health p99 under registrations / guide's": runs["register"].health_p99 / runs["guide"].health_p99,
        "register with Argon2id / bare hashes": runs["register with hash"].rate / runs["bare hash"].rate,
        "/health p99 under Argon2id, ms": runs["register with hash"].health_p99 * 1000,
        "import / COPY": runs["import"].rate / runs["copy"].rate,
        "with the outbox row / without": runs["with outbox"].rate / runs["without outbox"].rate,
    }


#: What each ratio must reach ("at least") or stay under ("at most").
BARS: dict[str, tuple[str, float]] = {
    "register / guide": ("at least", 6),
    "change of profile / guide": ("at least", 6),
    "register / pgbench": ("at least", 0.35),
    "/health p99 under registrations / guide's": ("at most", 0.25),
    "register with Argon2id / bare hashes": ("at least", 0.9),
    "/health p99 under Argon2id, ms": ("at most", 25),
    "import / COPY": ("at least", 0.25),
    "with the outbox row / without": ("at least", 0.9),
}


def report(ratios: dict[str, float]) -> bool:
    """Show them beside their bars; says whether all are met."""
    table = Table("ratio", "measured", "bar", "", title="Command API, one worker")
    met = []
    for name, ratio in ratios.items():
        kind, bar = BARS[name]
        met.append(ratio >= bar if kind == "at least" else ratio <= bar)
        table.add_row(name, f"{ratio:.2f}", f"{kind} {bar}", "met" if met[-1] else "MISSED")
    Console().print(table)
    return all(met)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--json", type=Path, help="write the ratios here, too")
    given = parser.parse_args()
    found = uvloop.run(main(given.rounds, given.seconds))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))
    sys.exit(0 if report(found) else 1)
