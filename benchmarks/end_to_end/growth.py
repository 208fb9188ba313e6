"""What grows with the number of users and what does not: a page, a command and a rebuild, each alone on the machine."""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from benchmarks.end_to_end.journeys import DEACTIVATED_EVERY, STRIDE
from benchmarks.population import user_id
from benchmarks.registrations import publish, registrations
from benchmarks.reporting.figures import Figure
from benchmarks.reporting.result import Plot, Result
from benchmarks.running.load import closed_loop, request
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Probe, Sample, interleave
from benchmarks.running.servers import Servers
from chassis.postgres.database import Database
from projectors.operations.rebuild import Rebuild, Stage
from projectors.settings import ProjectorSettings
from read_model import users

#: Seconds for which one client asks in each round; a page takes a millisecond.
SECONDS: Final = 0.25
#: A million would take longer than all the rest, and the projections' benchmark times it; the trend shows by then.
MOST_REBUILT: Final = 100_000
REBUILD_SECONDS: Final = 120.0


@dataclass(slots=True)
class Growth:
    """The points of three curves over the number of users."""

    page: dict[int, Figure] = field(default_factory=dict)
    command: dict[int, Figure] = field(default_factory=dict)
    rebuild: dict[int, Figure] = field(default_factory=dict)

    async def measure(self, plan: Plan, size: int, command_port: int, query_port: int) -> None:
        """Measure a page and a command, as one client sees them."""
        probes = {
            f"page of 50 of {size:,} users": _alone(query_port, lambda: request("/users?limit=50")),
            f"command on one of {size:,} users": _alone(command_port, _changes(size)),
        }
        rounds = await interleave(plan, probes, unit="ms")
        self.page[size], self.command[size] = (rounds[name] for name in probes)

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
        self.rebuild[size] = Figure((seconds,))

    def tell(self, result: Result) -> None:
        """Add figures and plots to the result."""
        for size, figure in self.page.items():
            result.measured(f"page of 50, {size:,} users", figure, "ms")
        for size, figure in self.command.items():
            result.measured(f"change of profile, {size:,} users", figure, "ms")
        for size, figure in self.rebuild.items():
            result.measured(f"rebuild, {size:,} users", figure, "s")
        lines = {"page of 50": _points(self.page), "change of profile": _points(self.command)}
        result.plot(
            Plot("growth", "A page and a command against the number of users", "users", "ms", lines, log_x=True)
        )
        if self.rebuild:
            result.note(
                "A rebuild of a million users takes longer than all the rest: it is timed on the page of projections."
            )
            line = {"rebuild of users": _points(self.rebuild)}
            title = "A rebuild against the number of users"
            result.plot(Plot("rebuild", title, "users", "seconds", line, log_x=True, log_y=True))


def _points(figures: dict[int, Figure]) -> list[tuple[float, float]]:
    return [(size, figure.median) for size, figure in figures.items()]


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
