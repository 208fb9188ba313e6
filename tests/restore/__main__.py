"""`make drill`: lose the command side, the query side, and both, and bring them back from backup and topic.

Exit code 1 where an audit found a difference, or somebody is not as they should be.
"""

import argparse
import asyncio
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final

from tests.chaos.report import last_change, table
from tests.infrastructure import throwaway_folder
from tests.restore.drill import Drill, drills
from tests.restore.installation import TwoServers

HEAD: Final = """\
# Restores, as they were practised

This page is written by a run of `make drill`; nobody edits it. An installation of two PostgreSQL servers, one
for each side, loses the first, the second, and both, and comes back from a base backup with the archived log and from
the topic.
"""
METHOD: Final = """\
- `pg_basebackup` copies the command side's server, and the log is archived ([Back up](how-to/back-up.md));
  `pg_verifybackup` is not tried, since the embedded PostgreSQL's crashes. A server is lost by SIGKILL, and with its
  whole folder. Backup and archive lie on the same disk; from elsewhere, the time to fetch them is to be added.
- On both sides of the time that is restored people are changed, erased and registered, and all of it is published and
  read: so the read side knows more than what comes back. Every step is that of
  [Restore a backup](how-to/restore-a-backup.md); what `muster repair --ahead` leaves to people is done: one who was
  erased is erased again, of two who were registered after that time one is imported and one given up.
- Each drill counts from the loss until `muster audit` has ended. A query API then shows of each of these people what it
  should.
"""


def main() -> int:
    """Do the drills, and write the page."""
    parser = argparse.ArgumentParser(prog="make drill", description=__doc__)
    parser.add_argument("--users", type=int, default=2000, help="on both sides; the bar is 1,000,000 in 300 s")
    parser.add_argument("--into", type=Path, help="the page that is written; none without")
    parser.add_argument("--keep", type=Path, help="a folder for all logs, if something differs")
    options = parser.parse_args()
    done = asyncio.run(_run(options.users, options.keep))
    written = page(options.users, done)
    if options.into:
        options.into.write_text(written, encoding="utf-8")
    sys.stdout.write(written)
    return 0 if all(one.holds for one in done) else 1


async def _run(users: int, keep: Path | None) -> list[Drill]:
    folder = throwaway_folder()
    installation = TwoServers(folder / "installation", sys.stdout)
    done: list[Drill] = []
    try:
        async with installation.whole(users):
            done = await drills(installation, partial(print, flush=True))
    finally:
        if keep and not (done and all(one.holds for one in done)):
            shutil.copytree(installation.logs, keep, dirs_exist_ok=True)
        shutil.rmtree(folder)
    return done


def page(users: int, done: Sequence[Drill]) -> str:
    """docs/restore.md."""
    circumstances = (
        ("Command", f'`make drill ARGS="--users {users} --into docs/restore.md"`'),
        ("Users", f"{users:,}, and the people of each drill"),
        ("Muster's last change, date", f"{last_change()}, {datetime.now(UTC):%Y-%m-%d}"),
        ("Machine", f"{os.cpu_count()} cores, {sys.platform}, load {os.getloadavg()[2]:.0f}"),
    )
    heads = ("What was lost", "Seconds", "Users compared", "Differences", "Not as they should be")
    steps = ("While bringing back", "Step", "Seconds")
    return "\n".join(
        [
            HEAD,
            *table(("", ""), circumstances, "ll"),
            "",
            *table(heads, _rows(done), "lrrrr"),
            "",
            *table(steps, _steps(done), "llr"),
            "",
            METHOD,
        ]
    )


def _rows(done: Sequence[Drill]) -> Iterator[Sequence[str]]:
    for one in done:
        yield one.name, f"{one.seconds:,.0f}", f"{one.compared:,}", f"**{one.differing:,}**", f"**{len(one.wrong)}**"


def _steps(done: Sequence[Drill]) -> Iterator[Sequence[str]]:
    for one in done:
        for step, seconds in one.steps.items():
            yield one.name, step, f"{seconds:,.1f}"


if __name__ == "__main__":
    sys.exit(main())
