"""`make chaos`: a run on a stack of its own, and its page. Exit code 1 where a promise was broken."""

import argparse
import asyncio
import shutil
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console

from tests.chaos.report import Circumstances, last_change, page
from tests.chaos.run import Outcome, Plan, run
from tests.chaos.stack import libfaketime, throwaway_stack

#: Of the command API, so that one can be killed. The query API has one: As-Of is promised of a process.
WORKERS: Final = 2
#: Breaches of one invariant that are printed.
SHOWN: Final = 5


def main() -> int:
    """Run, write the page, and say what was broken."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for how long faults strike")
    parser.add_argument("--seed", type=int, default=1, help="which faults, in which order, for how long")
    parser.add_argument("--faults", default="", help="only these, once each, with commas between them")
    parser.add_argument("--into", type=Path, help="the page that is written; none without")
    parser.add_argument(
        "--keep", type=Path, help="a folder for the history and the stack's logs, if a promise is broken"
    )
    options = parser.parse_args()
    plan = Plan(options.seconds, options.seed, tuple(options.faults.split(",")) if options.faults else None)
    outcome = asyncio.run(_run(plan, options.keep))
    if options.into:
        told = Circumstances(last_change(), f"{datetime.now(UTC):%Y-%m-%d}", bool(libfaketime()))
        options.into.write_text(page(outcome, plan, told), encoding="utf-8")
    _show(outcome)
    return 1 if outcome.breaches else 0


async def _run(plan: Plan, keep: Path | None) -> Outcome:
    async with throwaway_stack(workers=WORKERS) as stack:
        outcome = await run(stack, plan, report=partial(print, flush=True))
        if keep and outcome.breaches:
            outcome.history.save(keep / "history.json")
            shutil.copytree(stack.logs, keep / "logs", dirs_exist_ok=True)
            shutil.copy(stack.folder.parent / "screen.txt", keep)
    return outcome


def _show(outcome: Outcome) -> None:
    console = Console(highlight=False)
    for name, breaches in outcome.breaches.items():
        console.print(f"[bold red]{name}[/] {len(breaches)}")
        for breach in breaches[:SHOWN]:
            console.print(f"  {breach}", markup=False, soft_wrap=True)
    if not outcome.breaches:
        console.print(f"Every promise held through {len(outcome.strikes)} strikes.")


if __name__ == "__main__":
    sys.exit(main())
