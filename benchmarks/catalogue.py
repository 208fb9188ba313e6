"""All benchmarks: the one table for the command line, the Makefile and the docs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Final, cast

from benchmarks.reporting.result import Result
from benchmarks.running.plan import USERS, Plan


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A benchmark: its folder, its name for people, the seconds it may take on two cores, and users unless told."""

    name: str
    title: str
    budget_seconds: float
    users: int = USERS

    def seconds_for(self, users: int) -> float:
        """Return the seconds that it may take with so many users: as many times longer as they are more than usual."""
        return self.budget_seconds * max(1.0, users / self.users)

    def load(self) -> Callable[[Plan], Awaitable[Result]]:
        """Import the benchmark; only when it is wanted, since each imports half of Muster."""
        module = import_module(f"benchmarks.{self.name.replace('-', '_')}.run")
        return cast("Callable[[Plan], Awaitable[Result]]", module.run)


#: Together 80 minutes at most.
BENCHMARKS: Final = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("commands", "Command API", 210),
        Benchmark("relay", "Relay", 300),
        Benchmark("projections", "Projections", 230),
        Benchmark("query", "Query API", 180),
        Benchmark("end-to-end", "End to end", 210),
        Benchmark("growth", "Growth", 900, users=10_000_000),
        Benchmark("cold-start", "Cold start", 60),
        Benchmark("resets", "Resets", 60),
        Benchmark("credentials", "Credentials", 450),
        Benchmark("overload", "Overload", 390),
        Benchmark("subscribers", "Subscribers", 420),
        Benchmark("console", "Console", 480),
        Benchmark("rivals", "Rivals", 900),
    )
}
