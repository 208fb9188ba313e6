"""`muster audit`: compares what both sides hold of every user. Reads both databases, and changes nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from chassis.postgres.database import Database
from chassis.settings import OperatorCommandPostgres, OperatorQueryPostgres, load
from cli.operations.audit_comparison import KEPT_DIFFERENCES, Audit, DifferenceKind, UserDifference
from cli.terminal.outages import DATABASE_OUTAGES, explain_outage
from cli.terminal.output import JsonOption, counted, fail, print_json, say
from cli.terminal.tables import print_table, table
from read_model.generations import NoGenerationError

#: What an operator does about each kind.
_REMEDIES = {
    DifferenceKind.BEHIND: "not applied yet: see `muster lag` and `muster parked list`; if neither says why,"
    " rebuild with `muster rebuild users`",
    DifferenceKind.FORGED: "somebody else wrote about them to the events topic (`muster parked list`; `muster doctor`"
    " says who may): `muster repair ID…` writes them anew from the command side",
    DifferenceKind.AHEAD: "the command database was restored to an earlier time: `muster repair --ahead`, as the how-to"
    " on restored backups says; or somebody else wrote to the events topic: `muster repair ID…`",
    DifferenceKind.DIFFERENT: "same version, other content: `muster repair ID…`; after a restored backup"
    " `muster repair --ahead`",
}


@dataclass(slots=True)
class _Result:
    """What an audit has found."""

    compared: int = 0
    kinds: Counter[DifferenceKind] = field(default_factory=Counter)
    kept: list[UserDifference] = field(default_factory=list)


class AuditSettings(OperatorCommandPostgres, OperatorQueryPostgres):
    """The settings of this command: an operator's tool may know both databases."""


def audit(*, as_json: JsonOption = False) -> None:
    """Compare every user on both sides and list each difference; exit code 1 when there are some."""
    settings = load(AuditSettings)
    screen = Console(stderr=True)
    bar = Progress(
        SpinnerColumn(), TextColumn("{task.completed:,.0f} users compared"), TimeElapsedColumn(),
        console=screen, disable=as_json or not screen.is_terminal,
    )  # fmt: skip
    task = bar.add_task("audit", total=None)
    with bar:
        try:
            result = asyncio.run(_audit(settings, lambda compared: bar.update(task, completed=compared)))
        except NoGenerationError as error:
            fail(str(error))
        except DATABASE_OUTAGES as error:
            explain_outage(error)
    if as_json:
        print_json(_document(result))
    else:
        _print(result)
    raise typer.Exit(1 if result.kinds else 0)


async def _audit(settings: AuditSettings, report: Callable[[int], None]) -> _Result:
    result = _Result()
    async with (
        Database.open(settings.command_database, application="muster-audit") as command,
        Database.open(settings.query_database, application="muster-audit") as query,
    ):
        work = await Audit.with_serving(command, query)
        async for compared, differences in work.walk():
            result.compared += compared
            result.kinds.update(difference.kind for difference in differences)
            result.kept += differences[: KEPT_DIFFERENCES - len(result.kept)]
            report(result.compared)
    return result


def _print(result: _Result) -> None:
    if result.kept:
        listed = table("user", "query side is", "command version", "query version", "fields", whole="user")
        for one in result.kept:
            listed.add_row(
                str(one.user_id), one.kind, _version(one.command_version), _version(one.query_version),
                ", ".join(one.fields),
            )  # fmt: skip
        print_table(listed)
    say(f"{counted(result.compared, 'user')} compared, {counted(result.kinds.total(), 'difference')}")
    for kind, count in sorted(result.kinds.items()):
        say(f"{count:,} {kind}: {_REMEDIES[kind]}")


def _version(version: int | None) -> str:
    return "unknown" if version is None else str(version)


def _document(result: _Result) -> dict[str, Any]:
    return {
        "compared": result.compared,
        "differences": {kind.value: result.kinds.get(kind, 0) for kind in DifferenceKind},
        "users": [
            {
                "id": one.user_id,
                "kind": one.kind,
                "command_version": one.command_version,
                "query_version": one.query_version,
                "fields": one.fields,
            }
            for one in result.kept
        ],
    }
