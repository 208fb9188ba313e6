"""`muster doctor`: look at everything a running Muster depends on, and say what to do about what is wrong."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from cli.doctor_checks import Finding, examine
from cli.output import print_json

_SIGNS = {"ok": "[green]ok[/green]", "warning": "[yellow]warning[/yellow]", "failed": "[red]failed[/red]"}


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Report as JSON.")] = False,
) -> None:
    """Check settings, servers, durability, migrations, topics, connection budget and clocks; exit 1 if any fails."""
    findings = asyncio.run(examine())
    if as_json:
        print_json([finding.as_dict() for finding in findings])
    else:
        _show(findings)
    if any(finding.result == "failed" for finding in findings):
        raise typer.Exit(1)


def _show(findings: list[Finding]) -> None:
    table = Table(show_lines=False)
    table.add_column("")
    table.add_column("Check")
    table.add_column("Found", overflow="fold")
    table.add_column("What to do", overflow="fold")
    for finding in findings:
        table.add_row(_SIGNS[finding.result], finding.check, finding.found, finding.remedy)
    Console(highlight=False).print(table)
