"""`python -m benchmarks NAME… | all`: runs benchmarks, shows their results, writes them to files.

One after the other, each with a time limit of its own. One that fails is reported and the next one runs. Exit codes: 0
all ran, 1 one failed, or with `--strict` a bar is missed or has too few figures; otherwise a bar that is missed is a
result like any other.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from rich.console import Console

from benchmarks.catalogue import BENCHMARKS, Benchmark
from benchmarks.reporting import terminal
from benchmarks.reporting.document import Report
from benchmarks.reporting.result import Result
from benchmarks.reporting.write import write
from benchmarks.running import machine, plan
from benchmarks.running.plan import Plan
from benchmarks.running.quiet import Quiet, disturbance
from chassis.lifecycle import new_event_loop

#: A benchmark that takes more than its budget times this is taken to hang.
GREATEST_OVERRUN: Final = 2.0
#: Where results go by default; only `make bench` writes to docs/benchmarks.
DEFAULT_FOLDER: Final = Path(".local/benchmarks")
PROFILE_FOLDER: Final = Path(".local/profiles")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="+", choices=[*BENCHMARKS, "all"], metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--rounds", type=int, help=f"rounds of every probe ({plan.ROUNDS})")
    parser.add_argument("--seconds", type=float, help=f"length of one probe ({plan.SECONDS:g})")
    parser.add_argument("--users", type=int, help=f"users in the tables ({plan.USERS:,} for most)")
    parser.add_argument("--quick", action="store_true", help="only see whether it works; nothing is claimed")
    parser.add_argument("--into", type=Path, default=DEFAULT_FOLDER, help=f"where results go ({DEFAULT_FOLDER})")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a bar is missed or has too few figures")
    parser.add_argument(
        "--profile", action="store_true", help=f"flame graphs into {PROFILE_FOLDER}; nothing is claimed"
    )
    return parser.parse_args(arguments)


def make_plan(benchmark: Benchmark, options: argparse.Namespace, folder: Path, console: Console) -> Plan:
    """Return the plan that the options ask for."""
    quick = options.quick
    return Plan(
        rounds=options.rounds or (plan.QUICK_ROUNDS if quick else plan.ROUNDS),
        seconds=options.seconds or (plan.QUICK_SECONDS if quick else plan.SECONDS),
        users=options.users or (plan.QUICK_USERS if quick else benchmark.users),
        quick=quick,
        folder=folder,
        say=lambda line: console.print(f"  {line}", style="dim", highlight=False),
        profiles=PROFILE_FOLDER.absolute() if options.profile else None,
    )


def scratch_folder() -> Path:
    """Yield a folder that PostgreSQL's user can reach even where we are root."""
    folder = Path(tempfile.mkdtemp(prefix="muster-bench-"))
    folder.chmod(0o755)
    return folder


def run_one(benchmark: Benchmark, options: argparse.Namespace, console: Console) -> Report | None:
    """Run one benchmark, show and write its result; print why and return None where it failed."""
    console.rule(f"{benchmark.title} (at most {benchmark.budget_seconds:.0f} s)")
    folder = scratch_folder()
    began, started_at, quiet = time.monotonic(), datetime.now(UTC), Quiet()
    try:
        wanted = make_plan(benchmark, options, folder, console)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            result: Result = runner.run(_limited(benchmark, wanted))
    except Exception:  # noqa: BLE001 - whatever it is, it is told in full, and the next benchmark runs
        console.print(f"{benchmark.title} failed after {time.monotonic() - began:.0f} s:", style="bold red")
        console.print(traceback.format_exc(), markup=False, highlight=False)
        return None
    finally:
        shutil.rmtree(folder)
    others = quiet.others()
    result.disturb(disturbance(others))
    if wanted.quick:
        result.withhold()
    circumstances = {**machine.facts(), "Used by others meanwhile": f"{others:.2g} cores"}
    report = Report(benchmark, wanted, result, circumstances, time.monotonic() - began, started_at)
    terminal.show(report, console)
    if not options.profile:
        console.print(f"Written to {write(report, options.into)}", highlight=False)
    return report


async def _limited(benchmark: Benchmark, wanted: Plan) -> Result:
    async with asyncio.timeout(benchmark.seconds_for(wanted.users) * GREATEST_OVERRUN):
        return await benchmark.load()(wanted)


def main(arguments: list[str]) -> int:
    """Run the benchmarks that were asked for and return the exit code."""
    options = parse(arguments)
    # The parts of Muster that run inside a benchmark log errors only.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    console = Console(highlight=False)
    names = list(BENCHMARKS) if "all" in options.names else list(dict.fromkeys(options.names))
    try:
        reports = [run_one(BENCHMARKS[name], options, console) for name in names]
    except KeyboardInterrupt:
        return 130
    if len(names) > 1:
        terminal.summary([report for report in reports if report], console)
    if None in reports:
        return 1
    return int(options.strict and not all(report.result.holds for report in reports if report))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
