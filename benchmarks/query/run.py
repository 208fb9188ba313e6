"""The bars of the query API at 1,000,000 users, one worker on one core, each against its reference in the same run.

Servers take one core, PostgreSQL and the load generator the other. A B A B: every reference and every candidate is
measured in every round, and the best runs are compared. Ratios count; rates are the machine's.

    python -m benchmarks.query.run [--users 1000000] [--rounds 3] [--seconds 3]
"""

import argparse
import asyncio
import itertools
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import uvloop
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from benchmarks.query.load import Measured, Next, closed_loop, open_loop, request
from chassis.settings import PostgresAddress
from local_stack.ports import free_port
from local_stack.postgres import PostgresServer
from projectors.migrate import migrate
from query_api.cursors import CursorSeal
from query_api.pagination import Place, seal_place
from query_api.settings import parse_keys
from tests.infrastructure import throwaway_folder

DATABASE = "muster_query"
#: Pages that differ; more than are in flight at once.
CURSORS = 500
SERVER_CORE, OTHER_CORE = {0}, {1}
CONNECTIONS = 32
CURSOR_KEYS = "k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
LEAST_READY_SECONDS = 60
SERVER_OPTIONS = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")

FILL = """
INSERT INTO users_g1 (id, version, status, email_key, username_key, created_at, updated_at, document)
SELECT id, 1 + n % 5, status, email, username, created_at, created_at, convert_to(
    json_build_object('id', id, 'email', email, 'username', username, 'email_verified', true,
        'display_name', 'User Number ' || n, 'attributes', json_build_object('plan', 'basic', 'team', 't' || n % 100),
        'is_active', status = 'active', 'status', status, 'version', 1 + n % 5,
        'created_at', created_at, 'updated_at', created_at)::text, 'UTF8')
FROM (SELECT n, uuidv7(make_interval(secs => n - 100000000)) AS id,
    CASE WHEN n % 50 = 0 THEN 'deactivated' ELSE 'active' END AS status,
    substr(md5(n::text), 1, 10) || n || '@example.com' AS email, substr(md5((n * 7)::text), 1, 8) || n AS username,
    timestamptz '2025-01-01' + make_interval(secs => n * 30) AS created_at
    FROM generate_series(1, $1::int) n) AS s
"""
GUIDE = """
CREATE TABLE guide_users AS SELECT id, email_key AS email, username_key AS username,
    '$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g'
    AS hashed_password,
    status = 'active' AS is_active, created_at, updated_at FROM users_g1;
ALTER TABLE guide_users ADD PRIMARY KEY (id);
CREATE UNIQUE INDEX ON guide_users (email);
CREATE UNIQUE INDEX ON guide_users (username);
"""

Probe = Callable[[], Awaitable[Measured]]


async def prepare(address: PostgresAddress, users: int) -> list[str]:
    """Fill both designs' tables with the same users; returns some ids."""
    connection = await asyncpg.connect(**address.connect_arguments)
    await connection.execute(FILL.replace("$1::int", str(users)))
    await connection.execute(GUIDE)
    await connection.execute("VACUUM ANALYZE users_g1")
    await connection.execute("VACUUM ANALYZE guide_users")
    await connection.execute(
        "INSERT INTO checkpoints (projection, generation, topic, partition, position, seen_until)"
        " SELECT 'users', 1, 'users.events', p, 1, now() FROM generate_series(0, 11) p"
    )
    ids = await connection.fetch("SELECT id FROM users_g1 TABLESAMPLE SYSTEM (1) LIMIT 2000")
    await connection.close()
    return [str(row["id"]) for row in ids]


@asynccontextmanager
async def server(factory: str, environment: dict[str, str]) -> AsyncIterator[int]:
    """One uvicorn worker on the server core; gives its port when it answers."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "uvicorn", factory, "--factory", "--port", str(port), *SERVER_OPTIONS,
        env={**os.environ, **environment},
        preexec_fn=lambda: os.sched_setaffinity(0, SERVER_CORE),
    )  # fmt: skip
    try:
        await until_it_answers(port)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        await process.wait()


async def until_it_answers(port: int) -> None:
    """Wait until the server takes a request."""
    deadline = time.monotonic() + LEAST_READY_SECONDS
    while time.monotonic() < deadline:
        try:
            measured = await closed_loop(port, lambda: request("/users?limit=1"), connections=1, seconds=0.1)
        except OSError:
            measured = Measured(1.0)
        if any(status < 500 for status in measured.statuses):
            return
        await asyncio.sleep(0.1)
    raise TimeoutError("the server did not become ready")


def pin(postgres: PostgresServer) -> None:
    """PostgreSQL, with what it starts from now on, and this process share a core."""
    assert postgres.pid is not None
    os.sched_setaffinity(postgres.pid, OTHER_CORE)
    os.sched_setaffinity(0, OTHER_CORE)


async def measure(probes: dict[str, Probe], rounds: int) -> dict[str, Measured]:
    """Every probe in every round; of each the best run: what else the machine does only ever slows one down."""
    runs: dict[str, list[Measured]] = {name: [] for name in probes}
    for number in range(rounds):
        for name, probe in probes.items():
            runs[name].append(await probe())
            print(f"round {number + 1}: {name}: {runs[name][-1].rate:,.0f}/s", file=sys.stderr)
    return {name: max(found, key=lambda run: run.rate) for name, found in runs.items()}


async def cursors_at(address: PostgresAddress, depth: int) -> list[str]:
    """Cursors that lead to pages from that depth on, no two alike, sealed with the server's own key."""
    connection = await asyncpg.connect(**address.connect_arguments)
    rows = await connection.fetch(
        "SELECT uuid_send(id) || timestamptz_send(created_at) AS position FROM users_g1"
        " ORDER BY created_at DESC, id DESC OFFSET $1 LIMIT $2",
        depth,
        CURSORS,
    )
    await connection.close()
    seal = CursorSeal(parse_keys(CURSOR_KEYS))
    return [seal_place(seal, Place("-created_at", {}, row["position"]), address=b"users") for row in rows]


async def main(users: int, rounds: int, seconds: float) -> dict[str, float]:
    """Everything; returns the ratios."""
    folder = throwaway_folder()
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        postgres = await stack.enter_async_context(
            PostgresServer(folder / "postgres", settings={"shared_buffers": "1GB", "max_wal_size": "4GB"})
        )
        await postgres.create_database(DATABASE)
        server_address = postgres.address
        address = PostgresAddress(
            server=server_address.host,
            port=server_address.port,
            user=server_address.user,
            password=SecretStr(server_address.password),
            database=DATABASE,
        )
        await asyncio.to_thread(migrate, address)
        ids = await prepare(address, users)
        pin(postgres)
        environment = {
            "QUERY_POSTGRES_USER": address.user,
            "QUERY_POSTGRES_PASSWORD": address.password.get_secret_value(),
            "QUERY_POSTGRES_SERVER": address.server,
            "QUERY_POSTGRES_PORT": str(address.port),
            "QUERY_POSTGRES_DB": DATABASE,
            "CURSOR_KEYS": CURSOR_KEYS,
            "GUIDE_DATABASE_URL": address.url.render_as_string(hide_password=False),
        }
        guide = await stack.enter_async_context(server("benchmarks.guide_app.app:create_app", environment))
        muster = await stack.enter_async_context(server("cli.serve:query_app", environment))
        shallow, deep = await cursors_at(address, 0), await cursors_at(address, users * 9 // 10)
        return await compare(guide, muster, ids, shallow, deep, rounds=rounds, seconds=seconds)


async def compare(  # noqa: PLR0913 - what is compared
    guide: int, muster: int, ids: list[str], shallow: list[str], deep: list[str], *, rounds: int, seconds: float
) -> dict[str, float]:
    """Measure all and give the ratios."""

    def closed(port: int, path: str, connections: int = CONNECTIONS) -> Probe:
        wanted = request(path)
        return lambda: closed_loop(port, lambda: wanted, connections=connections, seconds=seconds)

    def each(port: int, paths: list[str]) -> Probe:
        requests = itertools.cycle([request(path) for path in paths])
        return lambda: closed_loop(port, lambda: next(requests), connections=CONNECTIONS, seconds=seconds)

    details = [f"/users/{identifier}" for identifier in ids]

    peak = await measure(
        {
            "hello": closed(guide, "/hello"),
            "guide list 50": closed(guide, "/users/?skip=0&limit=50"),
            "guide list 100": closed(guide, "/users/?skip=0&limit=100"),
            "guide by id": each(guide, details),
            "list 50": closed(muster, "/users?limit=50"),
            "list 100": closed(muster, "/users?limit=100"),
            "by id": each(muster, details),
            # No two alike, so that none shares another's rows while it queues.
            "near pages": each(muster, [f"/users?limit=50&cursor={cursor}" for cursor in shallow]),
            "deep pages": each(muster, [f"/users?limit=50&cursor={cursor}" for cursor in deep]),
            "guide deep page": closed(guide, "/users/?skip=900000&limit=50", 1),
        },
        rounds,
    )
    for name, run in peak.items():
        assert set(run.statuses) == {200}, (name, run.statuses)
    half = {name: peak[name].rate / 2 for name in ("list 50", "by id")}
    hello = request("/hello")
    wanted: dict[str, Next] = {}
    wanted["list 50"] = lambda: request("/users?limit=50")
    cycle = itertools.cycle([request(f"/users/{identifier}") for identifier in ids])
    wanted["by id"] = lambda: next(cycle)
    ratios = {
        "list 50 / guide": peak["list 50"].rate / peak["guide list 50"].rate,
        "list 100 / guide": peak["list 100"].rate / peak["guide list 100"].rate,
        "list 50 / hello": peak["list 50"].rate / peak["hello"].rate,
        "by id / guide": peak["by id"].rate / peak["guide by id"].rate,
        "by id / hello": peak["by id"].rate / peak["hello"].rate,
        "near pages, no two alike / guide": peak["near pages"].rate / peak["guide list 50"].rate,
        "near pages, no two alike / hello": peak["near pages"].rate / peak["hello"].rate,
        "near pages / deep pages": peak["near pages"].rate / peak["deep pages"].rate,
        "deep pages / guide's deep page": peak["deep pages"].rate / max(peak["guide deep page"].rate, 0.01),
    }
    for name, rate in half.items():
        ours = await measure({name: _open(muster, wanted[name], rate, seconds)}, rounds)
        theirs = await measure({"hello": _open(guide, lambda: hello, rate, seconds)}, rounds)
        ratios[f"p99 of {name} at half its peak / hello's"] = ours[name].percentile(0.99) / theirs["hello"].percentile(
            0.99
        )
    return ratios


def _open(port: int, following: Next, rate: float, seconds: float) -> Probe:
    return lambda: open_loop(port, following, rate=rate, connections=256, seconds=seconds)


#: What each ratio must reach ("at least") or stay under ("at most").
BARS: dict[str, tuple[str, float]] = {
    "list 50 / guide": ("at least", 14),
    "list 100 / guide": ("at least", 22),
    "list 50 / hello": ("at least", 0.65),
    "by id / guide": ("at least", 7),
    "by id / hello": ("at least", 0.8),
    "near pages, no two alike / guide": ("no bar", 0),
    "near pages, no two alike / hello": ("no bar", 0),
    "near pages / deep pages": ("at most", 1.2),
    "deep pages / guide's deep page": ("at least", 400),
    "p99 of list 50 at half its peak / hello's": ("at most", 5),
    "p99 of by id at half its peak / hello's": ("at most", 5),
}


def report(ratios: dict[str, float]) -> bool:
    """Show them beside their bars; says whether all are met."""
    table = Table("ratio", "measured", "bar", "", title="Query API, one worker on one core")
    met = []
    for name, ratio in ratios.items():
        kind, bar = BARS[name]
        met.append(ratio <= bar if kind == "at most" else ratio >= bar)
        table.add_row(name, f"{ratio:.2f}", f"{kind} {bar or ''}", "met" if met[-1] else "MISSED")
    Console().print(table)
    return all(met)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--json", type=Path, help="write the ratios here, too")
    given = parser.parse_args()
    found = uvloop.run(main(given.users, given.rounds, given.seconds))
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))
    sys.exit(0 if report(found) else 1)
