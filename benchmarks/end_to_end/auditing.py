"""How long an audit of both sides takes, beside reading every row of both tables: the least that it could do."""

import math
import time
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from benchmarks.reporting.figures import Figure, figure_of, quotient
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
    found: list[int] = []

    async def scans() -> Sample:
        async with servers.session("command") as command, servers.session("query") as query:
            began = time.perf_counter()
            await _scan(command, "users")
            await _scan(query, "users_g1")
            return Sample(time.perf_counter() - began)

    async def audit() -> Sample:
        walked = await audited(servers)
        found.append(walked.differing)
        return Sample(walked.seconds)

    reference, subject = f"two table scans, {users:,} users", f"audit, {users:,} users"
    rounds = await interleave(plan, {reference: scans, subject: audit}, unit="s", warm_up=False, rounds=ROUNDS)
    result.table(rounds)
    result.observed("audit / two table scans", rounds.ratio(subject, reference), note="once")
    name = f"users that differ after all journeys, of {users:,}"
    result.claim(name, Figure.once(max(found, default=math.nan)), at_most=0, unit="users")


@dataclass(slots=True)
class Audited:
    """An audit that has ended: the users that differ, and (users, seconds) of each range in the order of the walk.

    The first range has the time to connect as well.
    """

    differing: int = 0
    ranges: list[tuple[int, float]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Seconds of all ranges."""
        return sum(seconds for _, seconds in self.ranges)

    def milliseconds_a_user(self, parts: int) -> Figure:
        """Return milliseconds for each user, in each of so many parts of the walk: so one audit tells how it varies.

        Parts have as many ranges; a walk of fewer ranges has fewer parts.
        """
        count, figures = min(parts, len(self.ranges)), []
        for part in range(count):
            some = self.ranges[part * len(self.ranges) // count : (part + 1) * len(self.ranges) // count]
            users, seconds = map(sum, zip(*some, strict=True))
            figures.append(quotient(seconds * 1000, users))
        return figure_of(figures)


async def audited(servers: Servers) -> Audited:
    """Audit all users."""
    found, began = Audited(), time.perf_counter()
    async with (
        Database.open(servers.command, application="benchmark") as ours,
        Database.open(servers.query, application="benchmark") as theirs,
    ):
        async for users, differences in (await Audit.with_serving(ours, theirs)).walk():
            began, since = time.perf_counter(), began
            found.ranges.append((users, began - since))
            found.differing += len(differences)
    return found


async def _scan(connection: asyncpg.Connection, table: str) -> None:
    await connection.fetchval(SCAN.format(table=table), timeout=SCAN_SECONDS)
