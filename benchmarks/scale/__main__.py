"""`python -m benchmarks.scale [--write]`: prints the tables of docs/explanation/scale.md, or puts them there."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.scale import measured
from benchmarks.scale.outage import AWAY_SECONDS, simulate
from benchmarks.scale.plans import PLANS, Plan, needs

PAGE: Final = Path(__file__).parents[2] / "docs" / "explanation" / "scale.md"
BEGIN: Final = "<!-- tables: written by python -m benchmarks.scale --write -->\n"
END: Final = "<!-- end of tables -->"


def tables() -> str:
    """All three, as Markdown."""
    return f"{_constants()}\n{_needs()}\n{_outages()}"


def page(text: str) -> str:
    """The page with the tables as they are now."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}{tables()}{END}{rest.partition(END)[2]}"


def _constants() -> str:
    rows = [
        (
            "registrations with Argon2id, a core",
            f"{measured.HASHES:,.0f}/s",
            "[Command API](../benchmarks/commands.md)",
        ),
        ("changes without a hash, a core", f"{measured.CHANGES:,.0f}/s", "[Command API](../benchmarks/commands.md)"),
        ("their SQL alone, in PostgreSQL", f"{measured.COMMITS:,.0f}/s", "[Command API](../benchmarks/commands.md)"),
        ("events published, the one relay", f"{measured.RELAYED:,.0f}/s", "[Relay](../benchmarks/relay.md)"),
        (
            "events applied to three projections, a core",
            f"{measured.APPLIED:,.0f}/s",
            "[Projections](../benchmarks/projections.md)",
        ),
        ("pages of 50, a core", f"{measured.PAGES:,.0f}/s", "[Query API](../benchmarks/query.md)"),
        ("a user in the command database", f"{measured.COMMAND_USER} bytes", "test"),
        ("a user in the query database", f"{measured.QUERY_USER} bytes", "test; once"),
        ("an entry of the timeline", f"{measured.TIMELINE_ENTRY} bytes", "test"),
        ("a row that waits in the outbox", f"{measured.OUTBOX_ROW} bytes", "test"),
        ("an event on the topic, alone in its batch", f"{measured.EVENT} bytes", "test"),
    ]
    return _table(("What", "Measured", "By"), rows)


def _needs() -> str:
    def row(label: str, shown: Callable[[Plan], str]) -> tuple[str, ...]:
        return (label, *map(shown, PLANS))

    rows = [
        row("commands a second", lambda plan: f"{plan.commands:,}"),
        row("queries a second", lambda plan: f"{plan.queries:,}"),
        row(
            "installations, each with its relay, topic and two primaries", lambda plan: f"{needs(plan).command_shards}"
        ),
        row("cores of command APIs", lambda plan: f"{needs(plan).command_api_cores:,}"),
        row("cores of command databases", lambda plan: f"{needs(plan).command_database_cores:,}"),
        row("projectors, and so partitions at least", lambda plan: f"{needs(plan).projector_cores:,}"),
        row("cores of query primaries, for what projectors write", lambda plan: f"{needs(plan).query_primary_cores:,}"),
        row("cores of query APIs", lambda plan: f"{needs(plan).query_api_cores:,}"),
        row("cores for their queries, of primaries and standbys", lambda plan: f"{needs(plan).query_database_cores:,}"),
        row("command database", lambda plan: _size(needs(plan).command_database_gb)),
        row("query database, without the timeline", lambda plan: _size(needs(plan).query_database_gb)),
        row("timeline, a year", lambda plan: _size(needs(plan).timeline_gb_a_year)),
        row("Kafka, three copies", lambda plan: _size(needs(plan).kafka_gb)),
        row("a rebuild of `users` in each, by one process", lambda plan: f"{needs(plan).rebuild_minutes:,.1f} min"),
    ]
    return _table(("", *(f"{plan.users:,} users" for plan in PLANS)), rows)


def _outages() -> str:
    outages = [simulate(plan) for plan in PLANS]
    rows = [
        ("waits in the outbox at most", *(f"{each.backlog:,} events" for each in outages)),
        ("on the command databases' disks", *(_size(each.backlog_gb) for each in outages)),
        ("all is published after", *(f"{each.published_after} s" for each in outages)),
        ("all is visible after", *(f"{each.visible_after} s" for each in outages)),
    ]
    return _table((f"Kafka away for {AWAY_SECONDS} s", *(f"{plan.users:,} users" for plan in PLANS)), rows)


def _size(gigabytes: float) -> str:
    return f"{gigabytes:,.1f} GB" if gigabytes < 1000 else f"{gigabytes / 1000:,.1f} TB"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        sys.stdout.write(tables())
