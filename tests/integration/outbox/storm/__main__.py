"""`make storm`: a thousand kills, a thousand ends of transactions that come late, and five minutes without a broker.

It says how far it is, writes its page, and ends what it has started on Ctrl-C and SIGTERM. Exit code 1 where something
was lost, repeated or out of order.
"""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from typing import Final

from tests.chaos.report import last_change, table
from tests.integration.outbox.private_servers import Private
from tests.integration.outbox.publishing import late_answers
from tests.integration.outbox.storm.outage import Outage
from tests.integration.outbox.storm.outage import Outcome as OutageOutcome
from tests.integration.outbox.storm.storm import Outcome, storm
from tests.servers.private_servers import private_servers

#: Most of a relay's life it waits: for the lock, the broker, the server that was killed. So many wait at once.
INSTALLATIONS: Final = 4
#: How long the relay waits for the end of a transaction that comes late; a small one ends in hundredths, and in tenths
#: where the machine is loaded.
LATE_SECONDS: Final = 1.0
CUT_SHORT: Final = 130

HEAD: Final = """\
# The relay under storm

This page is written by a run of `make storm`; nobody edits it. What a `read_committed` consumer found, against what the
databases say.
"""
#: How each was done, by what is in Outcomes.
METHODS: Final = {
    "storm": """\
- Writers change users in transactions that take their ids early, hold, and roll back, while relays kill themselves
  (`SIGKILL`) at a random point of their work and a standby takes over. After every ninth of these kills PostgreSQL or
  the broker is killed as well. Aborted records are those that the consumer must not see.
""",
    "late": """\
- The end of a transaction times out while its connection lives: a proxy holds the answer to EndTxn, or the request
  itself, and lets it through within the next transaction
  ([KIP-890](https://cwiki.apache.org/confluence/display/KAFKA/KIP-890%3A+Transactions+Server-Side+Defense)).
""",
    "outage": """\
- The broker is away while commands go on at a hundred a second; refused are those that were not done.
""",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of each."""

    kills: int
    late: int
    outage: float
    seed: int


@dataclass(slots=True)
class Outcomes:
    """What became of each; None where it was not wanted."""

    storm: Outcome | None = None
    late: late_answers.Outcome | None = None
    outage: OutageOutcome | None = None

    @property
    def hold(self) -> bool:
        """Whether every promise was kept."""
        return all(one.holds for one in (self.storm, self.late, self.outage) if one)


def main() -> int:
    """Do what is wanted, and write the page."""
    parser = argparse.ArgumentParser(prog="make storm", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--late", type=int, default=1000, help="transactions whose end comes late")
    parser.add_argument("--outage", type=float, default=300, help="seconds that the broker is away; 0 for none")
    parser.add_argument("--into", type=Path, help="the page that is written; none without")
    options = parser.parse_args()
    plan, began = Plan(options.kills, options.late, options.outage, options.seed), time.monotonic()
    # A Ctrl-C goes to every process of the terminal, and is for this one: who is forked from this server ignores it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    forkserver.ensure_running()
    try:
        outcomes = asyncio.run(_run(plan))
    except asyncio.CancelledError:
        sys.stderr.write("stopped; nothing was written\n")
        return CUT_SHORT
    written = page(plan, outcomes, time.monotonic() - began)
    if options.into:
        options.into.write_text(written, encoding="utf-8")
    sys.stdout.write(written)
    return 0 if outcomes.hold else 1


async def _run(plan: Plan) -> Outcomes:
    """Do each; a signal cancels it, and with it everything that runs."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    report, outcomes = partial(print, flush=True), Outcomes()
    if plan.kills:
        outcomes.storm = await storm(plan.kills, plan.seed, installations=INSTALLATIONS, report=report)
    if plan.late:
        outcomes.late = await _late_ends(plan.late, report)
    if plan.outage:
        report(f"outage: {plan.outage:g} s without a broker")
        async with private_servers(durable=True) as servers:
            outcomes.outage = await Outage(await Private.on(servers), plan.outage).run()
    return outcomes


async def _late_ends(rounds: int, report: late_answers.Report) -> late_answers.Outcome:
    async with private_servers(durable=True) as servers, AsyncExitStack() as sessions:
        relays = []
        for _ in range(INSTALLATIONS):
            private = await Private.on(servers)
            relays.append((private.settings, await sessions.enter_async_context(private.session())))
        return await late_answers.late_ends(relays, rounds, LATE_SECONDS, report)


def page(plan: Plan, outcomes: Outcomes, seconds: float) -> str:
    """docs/storm.md."""
    command = f'make storm ARGS="--kills {plan.kills} --late {plan.late} --outage {plan.outage:g} --seed {plan.seed}"'
    circumstances = (
        ("Command", f"`{command}`"),
        ("Muster's last change, date", f"{last_change()}, {datetime.now(UTC):%Y-%m-%d}"),
        ("Machine", f"{os.cpu_count()} cores, {sys.platform}, load {os.getloadavg()[2]:.0f}"),
        ("Time", f"{seconds / 60:.0f} minutes"),
    )
    heads = ("What struck", "Times", "Events", "Lost", "Repeated", "Out of order", "Besides")
    lines = [HEAD, *table(("", ""), circumstances, "ll"), "", *table(heads, _rows(outcomes), "lrrrrrl"), ""]
    methods = (method for name, method in METHODS.items() if getattr(outcomes, name))
    return "\n".join([*lines, "".join(methods)])


def _rows(outcomes: Outcomes) -> Iterator[tuple[str, ...]]:
    if one := outcomes.storm:
        kills = ", ".join(f"{name} {count:,}" for name, count in sorted(one.kills.items()))
        besides = f"{one.aborted:,} aborted records; {kills}"
        yield "kills", f"{one.kills.total():,}", *_found(one), besides
    if late := outcomes.late:
        besides = f"{late.answers:,} answers, {late.requests:,} requests"
        yield "ends that came late", f"{late.answers + late.requests:,}", *_found(late), besides
    if away := outcomes.outage:
        besides = (
            f"{away.acknowledged:,} commands done, {away.put_off:,} told to come later, {away.refused:,} refused;"
            f" {away.gathered:,} events gathered, came at {away.arrival_rate:,.0f}/s and went out at"
            f" {away.drain_rate:,.0f}/s"
        )
        yield "a broker that was away", "1", f"{away.events:,}", f"{away.lost:,}", f"{away.repeated:,}", "–", besides


def _found(outcome: Outcome | late_answers.Outcome) -> tuple[str, ...]:
    return tuple(f"{count:,}" for count in (outcome.events, outcome.lost, outcome.repeated, outcome.inverted))


if __name__ == "__main__":
    sys.exit(main())
