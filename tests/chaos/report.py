"""docs/reliability.md: what a run did, what it found, and how to do it again."""

import os
import statistics
import subprocess
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.chaos.bugs import ALL
from tests.chaos.checker import INVARIANTS
from tests.chaos.planted import PLANTED
from tests.chaos.run import Outcome, Plan

#: The row of what struck two at a time.
TOGETHER: Final = "two of these at once"
HEAD: Final = f"""\
# Reliability: what was done to Muster, and what held

This page is written by a run of `make chaos`; nobody edits it. Clients with keys and tokens work while faults strike,
one after the other and sometimes two at once. Then everything that the clients were told, the log, and both databases
are held against each other by `tests/chaos/checker.py`. That is itself tested with {len(PLANTED)} planted bugs, each
of them a history that was altered by hand, and with {len(ALL)} that `make chaos-short` plants in running processes.
"""
RECOVERY: Final = """\
Recovery: from the end of the fault until changes of users on most partitions, begun after it, had been acknowledged and
read back with their tokens.
"""
LIMITS: Final = """\
Servers and processes are those of `muster up`, on one machine, with a TCP proxy on every link between a process and a
server. What is killed is started again by the local stack's supervisor. A disk is full as far as a server can tell:
none of its files may grow (`RLIMIT_FSIZE`), which needs no other disk and no root. Clocks are stepped where libfaketime
is on the machine, and only those of Muster's own processes. One broker and one PostgreSQL are what there is, so
replication is not tried here, nor a power cut: what the system has not written yet survives `kill -9`. A lost topic is
mended by the commands of [its page](how-to/refill-a-lost-topic.md), each repeated until it succeeds. The relay is
killed at every point of its work in [the storm](storm.md)."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """When a run was made, of what, and whether clocks could be stepped."""

    commit: str
    date: str
    clocks: bool


def last_change() -> str:
    """The last commit that changed Muster itself: one that changes its tests or pages is not another Muster."""
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    command = ["git", "log", "-1", "--format=%H", "--", *packages]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout[:12]


def page(outcome: Outcome, plan: Plan, circumstances: Circumstances) -> str:
    """The page."""
    lines = [
        HEAD,
        *_run(outcome, plan, circumstances),
        "",
        "## Faults",
        "",
        RECOVERY,
        *_spared(outcome),
        *table(("Fault", "Times", "Held, s", "Recovery, median s", "Recovery, worst s"), _faults(outcome), "lrrrr"),
        "",
        "## Promises",
        "",
        *table(("Invariant", "Promise", "Broken"), _promises(outcome), "llr"),
        "",
        "## What is not in it",
        "",
        LIMITS,
        *([] if circumstances.clocks else ["This machine had no libfaketime: no clock was stepped."]),
    ]
    return "\n".join(lines) + "\n"


def _spared(outcome: Outcome) -> Iterator[str]:
    """What is not shown by this run, however good its promises look."""
    if outcome.spared:
        yield f"**{len(outcome.spared)} of {len(outcome.known)} faults never struck:** {', '.join(outcome.spared)}."
        yield ""


def _run(outcome: Outcome, plan: Plan, circumstances: Circumstances) -> Iterator[str]:
    history = outcome.history
    answers = Counter(_answer(command.status) for command in history.commands)
    reads = Counter(_answer(read.status) for read in history.reads)
    yield "| | |"
    yield "| --- | --- |"
    yield f"| Promises broken | **{len(outcome.breaches)}** of {len(INVARIANTS)} |"
    yield f"| Command | `make chaos SECONDS={plan.seconds:g} SEED={plan.seed}` |"
    yield f"| Muster's last change, date | {circumstances.commit}, {circumstances.date} |"
    yield f"| Machine | {os.cpu_count()} cores, {sys.platform}, load {os.getloadavg()[2]:.0f} |"
    yield f"| Time under faults | {outcome.seconds:,.0f} s, {len(outcome.strikes):,} strikes |"
    yield f"| Commands sent | {len(history.commands):,}: {_counted(answers)} |"
    yield f"| Reads with a token | {len(history.reads):,}: {_counted(reads)} |"
    entries, users = sum(len(walk.ids) for walk in history.walks), {record.user for record in history.log}
    yield f"| Lists read to their end | {len(history.walks):,}, {entries:,} entries |"
    yield f"| Events on the log | {len(history.log):,} of {len(users):,} users |"


def _answer(status: int | None) -> str:
    if status is None:
        return "no answer"
    return {2: "done", 4: "refused (4xx)", 5: "later (5xx)"}.get(status // 100, str(status))


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.most_common())


def _faults(outcome: Outcome) -> Iterator[Sequence[str]]:
    found: dict[str, list[tuple[float, float | None]]] = defaultdict(list)
    for strike in outcome.strikes:
        found[strike.faults[0] if len(strike.faults) == 1 else TOGETHER].append((strike.held, strike.recovery))
    for name, strikes in sorted(found.items(), key=lambda item: (item[0] == TOGETHER, item[0])):
        held = [seconds for seconds, _ in strikes]
        recovered = [seconds for _, seconds in strikes if seconds is not None]
        span = f"{min(held):.1f}–{max(held):.1f}" if max(held) else "–"
        worst = f"{max(recovered):.1f}" if len(recovered) == len(strikes) else "not in time"
        yield name, str(len(strikes)), span, f"{statistics.median(recovered):.1f}" if recovered else "–", worst


def _promises(outcome: Outcome) -> Iterator[Sequence[str]]:
    for name, invariant in INVARIANTS.items():
        yield name, str(invariant.__doc__), str(len(outcome.breaches.get(name, [])))


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], aligned: str) -> Iterator[str]:
    """A table in Markdown; `aligned` has an "l" or "r" for each column."""
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join('---:' if side == 'r' else '---' for side in aligned)} |"
    for row in rows:
        yield f"| {' | '.join(row)} |"
