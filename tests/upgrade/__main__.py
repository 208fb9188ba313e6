"""`make upgrade`: two of each process of the released version, rolled to this one and back while clients work.

Exit code 1 where a request failed or an audit found a difference, 2 where there is nothing to upgrade from.
"""

import argparse
import asyncio
import shutil
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from chassis.postgres.database import session
from cli.stack.local_stack import muster
from cli.stack.settings import COMMAND_DATABASE
from tests.chaos.report import last_change
from tests.conftest import address_on
from tests.infrastructure import throwaway_folder
from tests.integration.outbox.traffic import Comparison
from tests.servers.installation import PROCESSES, Installation
from tests.upgrade.clients import Tally, Traffic
from tests.upgrade.follower import Follower
from tests.upgrade.released import CHECKOUT, NotBuiltError, build, commit_of, released
from tests.upgrade.report import Circumstances, page
from tests.upgrade.roll import Fleet, Version
from tests.waiting import until

CLIENTS: Final = 8
#: Of all requests, those that are made before anything changes, between the two rolls, and after them.
CALM: Final = 0.1
#: In which all that was acknowledged is published and read.
QUIET_SECONDS: Final = 120.0
#: Where a package of a process is, if the version has that process.
_PACKAGES: Final = {"event-api": "event_api", "console": "console"}


@dataclass(slots=True)
class Outcome:
    """What was counted in each stretch, and what each audit found."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    audits: dict[str, tuple[int, int]] = field(default_factory=dict)
    #: What a client of the stream had at each audit, in words, and whether that was each event once.
    streams: dict[str, str] = field(default_factory=dict)
    is_streamed: bool = True
    rebuilt: list[str] = field(default_factory=list)

    def note(self, when: str, follower: Follower, found: Comparison) -> None:
        """Keep what a client of the stream had at that time."""
        wrong = found.lost + found.repeated + found.inverted
        connections = f"over {follower.connections} connections"
        self.streams[when] = f"**{wrong:,}** of {follower.events:,} missed, twice or out of order, {connections}"
        self.is_streamed = self.is_streamed and not wrong

    @property
    def holds(self) -> bool:
        """Whether nothing failed and nothing differs."""
        failed = sum(tally.failed for tally in self.tallies.values())
        differing = any(differing for _, differing in self.audits.values())
        return not failed and bool(self.audits) and not differing and self.is_streamed


def main() -> int:
    """Build, roll, and write the page."""
    parser = argparse.ArgumentParser(prog="make upgrade", description=__doc__)
    parser.add_argument("--requests", type=int, default=2000, help="at least so many; the bar is 20,000")
    parser.add_argument("--into", type=Path, help="the page that is written; none without")
    parser.add_argument("--keep", type=Path, help="a folder for all logs, if something failed")
    parser.add_argument("--from", dest="older", default=released(), help="another commit than tests/upgrade/RELEASED")
    options = parser.parse_args()
    try:
        commit = commit_of(options.older)
        old = _version(commit, build(commit), CHECKOUT / ".local" / "upgrade" / commit[:12])
    except NotBuiltError as error:
        sys.stderr.write(f"NOTHING WAS UPGRADED: {error}\n")
        return 2
    new = _version(last_change(), muster().command[0], CHECKOUT)
    began = time.monotonic()
    outcome = asyncio.run(_run(old, new, options.requests, options.keep))
    told = Circumstances(commit, new.name, f"{datetime.now(UTC):%Y-%m-%d}", options.requests, time.monotonic() - began)
    written = page(outcome.tallies, outcome.audits, outcome.streams, outcome.rebuilt, told)
    if options.into:
        options.into.write_text(written, encoding="utf-8")
    sys.stdout.write(written)
    for failure in (one for tally in outcome.tallies.values() for one in tally.failures):
        sys.stderr.write(f"{failure}\n")
    return 0 if outcome.holds else 1


def _version(name: str, program: str, checkout: Path) -> Version:
    has = {name for name in PROCESSES if (checkout / _PACKAGES.get(name, "")).is_dir()}
    return Version(name[:12], program, frozenset(has))


async def _run(old: Version, new: Version, requests: int, keep: Path | None) -> Outcome:
    folder, outcome = throwaway_folder(), Outcome()
    installation = Installation(folder / "installation", sys.stdout, old.program)
    try:
        async with installation.running():
            await _roll(installation, old, new, requests, outcome)
    finally:
        if keep and not outcome.holds:
            shutil.copytree(installation.logs, keep, dirs_exist_ok=True)
        shutil.rmtree(folder)
    return outcome


async def _roll(installation: Installation, old: Version, new: Version, requests: int, outcome: Outcome) -> None:
    fleet = Fleet(installation)
    await fleet.start(old)
    follower = Follower(lambda: fleet.urls("event-api"), installation.bearer)
    traffic = Traffic(fleet.urls("command-api"), fleet.urls("query-api"), installation.bearer, CLIENTS)
    outcome.tallies = traffic.tallies
    calm = int(requests * CALM)
    traffic.stretch("the older version alone")
    async with follower.following():
        async with traffic.flowing():
            await traffic.until(calm)
            traffic.stretch("the newer one migrates, the older serves")
            await fleet.prepare(new)
            traffic.stretch("every process is replaced by the newer")
            await fleet.up(old, new)
            traffic.stretch("the newer version alone")
            await traffic.until(calm)
        outcome.audits["the newer, once all was replaced"] = await _audit(installation, new)
        outcome.note("once all was replaced by the newer", follower, await follower.compared(traffic.known))
        outcome.rebuilt = fleet.rebuilt
        async with traffic.flowing():
            traffic.stretch("every process is replaced by the older")
            await fleet.back(new, old)
            traffic.stretch("the older version alone, on the newer one's tables")
            await traffic.until(max(calm, requests - traffic.requests + traffic.tally.requests))
        outcome.audits["the older, once all was back"] = await _audit(installation, old)
        if fleet.urls("event-api"):
            outcome.note("once all was back", follower, await follower.compared(traffic.known))
    await traffic.close()
    await fleet.end()


async def _audit(installation: Installation, version: Version) -> tuple[int, int]:
    """How many users `muster audit` of a version compares, and how many differ, once all is published and read."""
    address = address_on(installation.servers.postgres.address, COMMAND_DATABASE)
    async with session(address, application="upgrade") as connection:

        async def is_published() -> bool:
            return not await connection.fetchval("SELECT count(*) FROM outbox")

        await until(is_published, within=QUIET_SECONDS, what="everything to be published")
    found: dict[str, Any] = {}

    async def agrees() -> bool:
        found.update(await installation.answer("audit", program=version.program))
        return not found["differences"].get("behind")

    await until(agrees, within=QUIET_SECONDS, what="everything to be read")
    return found["compared"], sum(found["differences"].values())


if __name__ == "__main__":
    sys.exit(main())
