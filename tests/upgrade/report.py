"""docs/upgrade.md: what a run of `make upgrade` did, and what it found."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.chaos.report import table
from tests.upgrade.clients import Tally

HEAD: Final = """\
# An upgrade under load, and its way back

This page is written by a run of `make upgrade`; nobody edits it. Two of each process of the released version (the
commit that `tests/upgrade/RELEASED` names) work on one PostgreSQL and one Kafka, and are rolled to this version and
back while clients send commands and queries.
"""
METHOD: Final = """\
- A client knows both addresses of an API and stays with the one that answered last. Where a connection is refused, or
  closed before an answer began, it goes to the other, up to four attempts without a pause; commands have an
  `Idempotency-Key`. These requests are *moved*. Everything else that is not the expected answer has *failed*: any 5xx,
  any other status, an answer that breaks off or does not come within 20 s, a read that is older than what the client
  was told of its own command.
- Processes are replaced as [Versions](explanation/versions.md#up-and-back) says, each where it is, by SIGTERM and a
  start; projectors start beside those of the other version. At the end of each roll every client reads back all that it
  was told, and `muster audit` compares every user.
- All is on one machine, so while one process starts the others have less of it: times are no benchmark."""
STREAM: Final = """\
- One client follows the event API from the first event on. When its stream ends, or nobody answers, it comes back with
  its position, to the other address. In the end it has every version of every user once and in order. There is one
  console, which is replaced with the others.
"""
REBUILT: Final = """\
- The newer version reads another shape of {names}: it makes that table anew beside the one that serves, and switches;
  on the way back the older version's projectors feed theirs again, and `muster rebuild rollback` switches
  ([how](how-to/change-a-read-table.md#upgrade-to-a-version-that-reads-another-shape)).
"""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """From which commit to which, when, with how many requests at least, and how long it took."""

    older: str
    newer: str
    date: str
    requests: int
    seconds: float


def page(
    tallies: Mapping[str, Tally],
    audits: Mapping[str, tuple[int, int]],
    streams: Mapping[str, str],
    rebuilt: Sequence[str],
    told: Circumstances,
) -> str:
    """The page; `streams` says what a client of the stream missed or had twice, by the stretch that it was there."""
    command = f'make upgrade ARGS="--requests {told.requests} --into docs/upgrade.md"'
    failed = sum(tally.failed for tally in tallies.values())
    requests = sum(tally.requests for tally in tallies.values())
    found = (
        (f"`muster audit` of {name}", f"**{differing:,}** of {users:,} users differ")
        for name, (users, differing) in audits.items()
    )
    circumstances = (
        ("Requests failed", f"**{failed:,}** of {requests:,}"),
        *found,
        *((f"Events on one stream, {name}", found) for name, found in streams.items()),
        ("Command", f"`{command}`"),
        ("From", f"{told.older[:12]}"),
        ("To: Muster's last change, date", f"{told.newer[:12]}, {told.date}"),
        ("Machine", f"{os.cpu_count()} cores, {sys.platform}, load {os.getloadavg()[2]:.0f}"),
        ("Time", f"{told.seconds:,.0f} s"),
    )
    heads = ("While", "Commands", "Queries", "Failed", "Moved", "Slowest, s")
    method = f"{METHOD}\n{STREAM}" + (
        REBUILT.format(names=" and ".join(f"`{name}`" for name in rebuilt)) if rebuilt else ""
    )
    return "\n".join(
        [HEAD, *table(("", ""), circumstances, "ll"), "", *table(heads, _rows(tallies), "lrrrrr"), "", method]
    )


def _rows(tallies: Mapping[str, Tally]) -> Iterator[Sequence[str]]:
    for name, tally in tallies.items():
        counts = (tally.commands, tally.queries, tally.failed, tally.moved)
        yield name, *(f"{count:,}" for count in counts), f"{tally.slowest:.1f}"
