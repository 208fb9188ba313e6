"""What grows with the number of users and what does not: requests, imports, audits, rebuilds, each alone."""

import asyncio
import itertools
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import httpx

from benchmarks.end_to_end.auditing import audited
from benchmarks.end_to_end.journeys import DEACTIVATED_EVERY, STRIDE
from benchmarks.population import FIXED_HASH, user_id
from benchmarks.registrations import publish, registrations
from benchmarks.reporting.figures import Figure, figure_of, quotient
from benchmarks.reporting.result import Plot, Result
from benchmarks.running.load import closed_loop, request
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Probe, Sample, interleave
from benchmarks.running.servers import Servers
from chassis.postgres.database import Database
from local_stack.ports import LOCALHOST
from projectors.operations.rebuild import Rebuild, Stage
from projectors.settings import ProjectorSettings
from read_model import users

#: Seconds for which one client asks in each round; a page takes a millisecond.
SECONDS: Final = 1.0
#: Different users looked up by id.
DETAILS: Final = 1000
#: Of one import: few, since they are users from then on.
LINES: Final = 100
FLAT: Final = (
    "page of 50", "user by id", "change of profile", "read with a consistency token", "line of an import",
)  # fmt: skip
#: What is flat takes at most so many times as long with the most users as with the fewest. What is linear takes at most
#: so many times as long for each user with the most as with a tenth of them: with few, its beginning is most of it.
FLAT_WITHIN: Final = 1.3
#: A million would take longer than all the rest, and the projections' benchmark times it; the trend shows by then.
MOST_REBUILT: Final = 100_000
REBUILD_SECONDS: Final = 120.0

_numbers = itertools.count(1)


@dataclass(slots=True)
class Growth:
    """The points of each curve over the number of users."""

    #: Milliseconds as one client sees them; each is to stay as it is.
    flat: dict[str, dict[int, Figure]] = field(default_factory=lambda: {name: {} for name in FLAT})
    #: Milliseconds for each user of an audit, in parts of one walk; its time grows with the users, and no faster.
    audit: dict[int, Figure] = field(default_factory=dict)
    #: Seconds of each whole.
    audits: dict[int, float] = field(default_factory=dict)
    rebuilds: dict[int, float] = field(default_factory=dict)

    async def measure(self, plan: Plan, size: int, command_port: int, query_port: int, servers: Servers) -> None:
        """Measure each request alone, an import, and an audit of everything."""
        details = itertools.cycle(
            [request(f"/users/{user_id(n)}") for n in range(1, size + 1, max(1, size // DETAILS))]
        )
        with_token = await _with_token(command_port, size)
        probes = dict(
            zip(
                FLAT,
                (
                    _alone(query_port, lambda: request("/users?limit=50")),
                    _alone(query_port, lambda: next(details)),
                    _alone(command_port, _changes(size)),
                    _alone(query_port, lambda: with_token),
                    _importing(command_port),
                ),
                strict=True,
            )
        )
        rounds = await interleave(plan, probes, unit=f"ms, {size:,} users")
        for name in probes:
            self.flat[name][size] = rounds[name]
        audit = await audited(servers)
        plan.say(f"audit of {size:,} users: {audit.seconds:.1f} s")
        self.audits[size], self.audit[size] = audit.seconds, audit.milliseconds_a_user(plan.rounds)

    async def measure_rebuild(self, plan: Plan, size: int, servers: Servers) -> None:
        """A rebuild of `users` from a topic of so many registrations, into an empty database."""
        fresh = await (await servers.new_topics()).new_database("query")
        settings = fresh.settings(ProjectorSettings)
        await publish(settings, settings.events_topic, registrations(size))
        began = time.perf_counter()
        async with Database.open(settings.query_database, application="benchmark") as database:
            work = Rebuild(settings, database, users.SCHEMA.name, asyncio.Event(), lambda _: None)
            async with asyncio.timeout(REBUILD_SECONDS):
                stage = await work.run(pause_before_switch=True)
        assert stage is Stage.READY, stage
        seconds = time.perf_counter() - began
        plan.say(f"rebuild of {size:,} users: {seconds:.1f} s")
        self.rebuilds[size] = seconds

    def tell(self, result: Result) -> None:
        """Add figures, bars and plots to the result."""
        for name, curve in self.flat.items():
            for size, figure in curve.items():
                result.measured(f"{name}, {size:,} users", figure, "ms")
            least, most = min(curve), max(curve)
            if most > least:
                result.claim(
                    f"{name}: at {most:,} users / at {least:,}", _grown(curve, least, most), at_most=FLAT_WITHIN
                )
        most = max(self.audit)
        if (tenth := most // 10) in self.audit:
            title = f"audit, for each user: at {most:,} users / at {tenth:,}"
            result.claim(title, _grown(self.audit, tenth, most), at_most=FLAT_WITHIN)
        lines = {name: [(size, figure.median) for size, figure in curve.items()] for name, curve in self.flat.items()}
        for title, whole in (("audit", self.audits), ("rebuild", self.rebuilds)):
            for size, seconds in whole.items():
                result.measured(f"{title}, {size:,} users", Figure((seconds,)), "s", "once")
            lines[f"{title}, for each user"] = [(size, seconds * 1000 / size) for size, seconds in whole.items()]
        title = "What each takes against the number of users"
        result.plot(Plot("curves", title, "users", "ms", lines, log_x=True, log_y=True))
        result.note("A rebuild of a million users takes longer than all the rest: the page of projections times it.")


def _grown(curve: dict[int, Figure], before: int, after: int) -> Figure:
    little, much = curve[before], curve[after]
    found = figure_of([quotient(*pair) for pair in zip(much.values, little.values, strict=False)], little.variation)
    return replace(found, missing=found.missing + max(little.missing, much.missing))


def _changes(size: int) -> Callable[[], bytes]:
    numbers = itertools.count()

    def following() -> bytes:
        while not (number := next(numbers) * STRIDE % size + 1) % DEACTIVATED_EVERY:
            continue
        document = {"display_name": f"Changed at {time.time():.6f}"}
        return request(f"/users/{user_id(number)}/profile", method="PATCH", document=document)

    return following


def _alone(port: int, following: Callable[[], bytes]) -> Probe:
    async def probe() -> Sample:
        measured = await closed_loop(port, following, connections=1, seconds=SECONDS)
        return Sample(measured.percentile(0.5) * 1000)

    return probe


async def _with_token(command_port: int, size: int) -> bytes:
    """Change somebody; return a read of that user which shows the token of the change, and waits for it if it must."""
    user = user_id(max(1, size // 2) // DEACTIVATED_EVERY * DEACTIVATED_EVERY + 1)
    async with httpx.AsyncClient(base_url=f"http://{LOCALHOST}:{command_port}", trust_env=False) as client:
        answer = await client.patch(f"/users/{user}/profile", json={"display_name": f"Read at {size:,}"})
        token = answer.raise_for_status().headers["consistency-token"]
    return request(f"/users/{user}", f"consistency-token: {token}", "prefer: wait=10")


def _importing(port: int) -> Probe:
    """Milliseconds of a line of an import."""

    async def probe() -> Sample:
        names = [f"grown{next(_numbers)}x{os.getpid()}" for _ in range(LINES)]
        lines = [
            json.dumps({"email": f"{name}@example.com", "username": name, "password_hash": FIXED_HASH})
            for name in names
        ]
        async with httpx.AsyncClient(base_url=f"http://{LOCALHOST}:{port}", trust_env=False, timeout=60) as client:
            began = time.perf_counter()
            headers = {"Content-Type": "application/x-ndjson"}
            answer = await client.post("/users/import", content="\n".join(lines).encode(), headers=headers)
            seconds = time.perf_counter() - began
        assert json.loads(answer.content.splitlines()[-1])["failed"] == 0
        return Sample(seconds / LINES * 1000)

    return probe
