"""`make failover`: kill each process, broker and server of an installation of two of each while clients work.

Exit code 1 where a query failed, commands were away too long, or something was lost or differs.
"""

import argparse
import asyncio
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from local_stack.servers import ServerSet
from tests.chaos.report import last_change, table
from tests.failover.faults import faults, until_whole
from tests.failover.probes import People, Probes, Stretch
from tests.infrastructure import throwaway_folder
from tests.servers.installation import PROCESSES, Installation
from tests.upgrade.clients import FailedError, Twice
from tests.waiting import until

#: The bar: commands may be away so long, queries never.
AWAY_SECONDS: Final = 10.0
#: In which somebody who comes during a fault can be registered and read; longer is a hang.
GOES_ON_SECONDS: Final = 180.0
CHOSEN: Final = ServerSet(brokers=3, standby=True, synchronous=True)
EACH: Final = 2
HEAD: Final = """\
# One of everything fails, as it was practised

This page is written by a run of `make failover`; nobody edits it. Two of each process of Muster work on three brokers
and on a PostgreSQL with a synchronous standby. Each process, broker and server is killed, and brokers are frozen and
restarted as well, one after the other, while clients register people and read one.
"""
METHOD: Final = """\
- Two clients of each kind know both addresses of an API, and begin at different ones. Where a connection is refused, or
  closed before an answer began, a client goes to the other address at once, with the same request; commands have an
  `Idempotency-Key`. Every other answer than the expected has *failed*: any 5xx, any other status, none within 20 s.
- *Longest without* is the longest time that a client had no answer as it should be, from its last one to the next or to
  the end of the row, with its failures in between and what a slow answer took. *Then read* is how long after the fault
  began somebody who was registered after that could be read with their token: their event went by the relay, Kafka and
  the projectors.
- Servers that end are started again by the local stack, processes by the run; the next fault waits until all copies are
  in step again. In the end everybody whose registration was acknowledged is read with their token, and `muster audit`
  compares every user.
- Nobody asks the event API and the console here: their rows show that nobody else misses them.
- All is on one machine, so while something starts the others have less of it.
"""


@dataclass(slots=True)
class Outcome:
    """What was counted during each fault, and what was there in the end."""

    commands: dict[str, Stretch] = field(default_factory=dict)
    queries: dict[str, Stretch] = field(default_factory=dict)
    #: Seconds until an event of somebody new was read.
    read: dict[str, float] = field(default_factory=dict)
    acknowledged: int = 0
    lost: int = 0
    compared: int = 0
    differing: int = 0

    @property
    def holds(self) -> bool:
        """Whether the bar is met."""
        refused = sum(one.failed for one in self.queries.values())
        return self.is_soon_back and not refused and bool(self.compared) and not self.differing and not self.lost

    @property
    def is_soon_back(self) -> bool:
        """Whether commands were never away for longer than they may be."""
        return max((one.longest for one in self.commands.values()), default=AWAY_SECONDS + 1) <= AWAY_SECONDS


def main() -> int:
    """Strike, and write the page."""
    parser = argparse.ArgumentParser(prog="make failover", description=__doc__)
    parser.add_argument("--into", type=Path, help="the page that is written; none without")
    parser.add_argument("--keep", type=Path, help="a folder for all logs, if the bar is not met")
    options = parser.parse_args()
    folder, outcome = throwaway_folder(), Outcome()
    installation = Installation(folder / "installation", sys.stdout, chosen=CHOSEN)
    try:
        asyncio.run(_run(installation, outcome))
    finally:
        if options.keep and not outcome.holds:
            shutil.copytree(installation.logs, options.keep, dirs_exist_ok=True)
        shutil.rmtree(folder)
    written = page(outcome)
    if options.into:
        options.into.write_text(written, encoding="utf-8")
    sys.stdout.write(written)
    for tally in (*outcome.commands.values(), *outcome.queries.values()):
        sys.stderr.writelines(f"{failure}\n" for failure in tally.failures)
    return 0 if outcome.holds else 1


async def _run(installation: Installation, outcome: Outcome) -> None:
    async with installation.running():
        processes = {
            name: [installation.process(name) for _ in range(1 if name == "console" else EACH)] for name in PROCESSES
        }
        await asyncio.gather(*(process.start() for some in processes.values() for process in some))
        urls = {name: [process.url for process in some] for name, some in processes.items()}
        commands = Probes(urls["command-api"], installation.bearer, changes=True)
        queries = Probes(urls["query-api"], installation.bearer, changes=False)
        # Those who look whether it goes on count elsewhere.
        newcomers = Probes(urls["command-api"], installation.bearer, changes=True)
        readers = Probes(urls["query-api"], installation.bearer, changes=False)
        newcomer, reader = newcomers.clients[0], readers.clients[0]
        people = People()
        first = await _goes_on(people, newcomer, reader)
        stopping = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(commands.flow(stopping, people.register))
            group.create_task(queries.flow(stopping, lambda client: client.ask("GET", first, 200)))
            for fault in faults(installation.servers, processes):
                await until_whole(installation.servers)
                commands.stretch(fault.name)
                queries.stretch(fault.name)
                began = time.monotonic()
                await fault.strike()
                await _goes_on(people, newcomer, reader)
                outcome.read[fault.name] = time.monotonic() - began
                sys.stdout.write(f"failover: {fault.name}: {outcome.read[fault.name]:.1f} s\n")
                await fault.mend()
            stopping.set()
        outcome.commands, outcome.queries = commands.tallies, queries.tallies
        await _look_back(installation, people, reader, outcome)
        await asyncio.gather(newcomers.close(), readers.close())


async def _goes_on(people: People, commands: Twice, queries: Twice) -> str:
    """Wait until somebody who comes now is registered and can be read, and return where."""

    async def is_registered() -> str:
        with suppress(FailedError):
            return await people.register(commands)
        return ""

    path = await until(is_registered, within=GOES_ON_SECONDS, what="a command")
    await until(lambda: people.is_read(queries, path), within=GOES_ON_SECONDS, what="its event")
    return path


async def _look_back(installation: Installation, people: People, reader: Twice, outcome: Outcome) -> None:
    """Count whom of all nobody can read, and what both sides have differently."""
    outcome.acknowledged = len(people.tokens)
    for path in people.tokens:
        try:
            await until(lambda path=path: people.is_read(reader, path), within=AWAY_SECONDS, what=path)  # type: ignore[misc]
        except AssertionError:
            outcome.lost += 1
    found = await installation.answer("audit")
    outcome.compared, outcome.differing = found["compared"], sum(found["differences"].values())


def page(outcome: Outcome) -> str:
    """docs/failover.md."""
    sides = (outcome.commands, outcome.queries)
    failed, requests = (
        [sum(getattr(one, name) for one in side.values()) for side in sides] for name in ("failed", "requests")
    )
    longest = [max((one.longest for one in side.values()), default=0.0) for side in sides]
    verdict = "holds" if outcome.is_soon_back else "missed"
    circumstances = (
        ("Acknowledged registrations lost", f"**{outcome.lost:,}** of {outcome.acknowledged:,}"),
        ("`muster audit`", f"**{outcome.differing:,}** of {outcome.compared:,} users differ"),
        ("Commands failed", f"{failed[0]:,} of {requests[0]:,}"),
        ("Longest without commands", f"**{longest[0]:.1f} s**; at most {AWAY_SECONDS:.0f}: {verdict}"),
        ("Queries failed", f"**{failed[1]:,}** of {requests[1]:,}; longest without {longest[1]:.1f} s"),
        ("Command", '`make failover ARGS="--into docs/failover.md"`'),
        ("Muster's last change, date", f"{last_change()}, {datetime.now(UTC):%Y-%m-%d}"),
        ("Machine", f"{os.cpu_count()} cores, {sys.platform}, load {os.getloadavg()[2]:.0f}"),
    )
    heads = (
        "What was done",
        "Commands",
        "Failed",
        "Longest without, s",
        "Queries",
        "Failed",
        "Longest, s",
        "Then read, s",
    )
    return "\n".join(
        [HEAD, *table(("", ""), circumstances, "ll"), "", *table(heads, _rows(outcome), "lrrrrrrr"), "", METHOD]
    )


def _rows(outcome: Outcome) -> Iterator[Sequence[str]]:
    for name, command in outcome.commands.items():
        query = outcome.queries[name]
        yield name, *_cells(command), *_cells(query), f"{outcome.read[name]:.1f}"


def _cells(one: Stretch) -> tuple[str, str, str]:
    return f"{one.requests:,}", f"{one.failed:,}", f"{one.longest:.1f}"


if __name__ == "__main__":
    sys.exit(main())
