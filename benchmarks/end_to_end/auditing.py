"""How long an audit of both sides takes, beside reading every row of both tables: the least that it could do."""

import time
from typing import Final

import asyncpg

from benchmarks.reporting.figures import Figure
from benchmarks.reporting.result import Result
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Sample, interleave
from benchmarks.running.servers import Servers
from chassis.postgres.database import Database
from cli.operations.audit_comparison import Audit

#: Reads every value of a table: the least that an audit must do.
SCAN: Final = "SELECT sum(length(t::text)) FROM {table} AS t"
SCAN_SECONDS: Final = 900.0
#: Both take seconds at a million users, long enough to be steady.
ROUNDS: Final = 1


async def measure_audit(plan: Plan, result: Result, servers: Servers, users: int) -> None:
    """Audit the users after the journeys; no difference is allowed."""
    found: list[float] = []

    async def scans() -> Sample:
        async with servers.session("command") as command, servers.session("query") as query:
            began = time.perf_counter()
            await _scan(command, "users")
            await _scan(query, "users_g1")
            return Sample(time.perf_counter() - began)

    async def audit() -> Sample:
        seconds, differing = await audited(servers)
        found.append(differing)
        return Sample(seconds)

    reference, subject = f"two table scans, {users:,} users", f"audit, {users:,} users"
    rounds = await interleave(plan, {reference: scans, subject: audit}, unit="s", warm_up=False, rounds=ROUNDS)
    result.table(rounds)
    result.observed("audit / two table scans", rounds.ratio(subject, reference), note="once")
    name = f"users that differ after all journeys, of {users:,}"
    result.claim(name, Figure.once(max(found)), at_most=0, unit="users")


async def audited(servers: Servers) -> tuple[float, int]:
    """Return the seconds of an audit, and how many users differ."""
    began, differing = time.perf_counter(), 0
    async with (
        Database.open(servers.command, application="benchmark") as ours,
        Database.open(servers.query, application="benchmark") as theirs,
    ):
        async for _, differences in (await Audit.with_serving(ours, theirs)).walk():
            differing += len(differences)
    return time.perf_counter() - began, differing


async def _scan(connection: asyncpg.Connection, table: str) -> None:
    await connection.fetchval(SCAN.format(table=table), timeout=SCAN_SECONDS)
