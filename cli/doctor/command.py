"""`muster doctor`: checks everything that a running Muster depends on, and says what to do where something fails."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from cli.doctor.budget import Instances
from cli.doctor.checks import examine
from cli.doctor.findings import Finding
from cli.terminal.output import JsonOption, print_json
from cli.terminal.tables import print_table, table

_SIGNS = {"ok": "[green]ok[/green]", "warning": "[yellow]warning[/yellow]", "failed": "[red]failed[/red]"}


def doctor(  # noqa: PLR0913 - each is an option of the command
    *,
    command_apis: Annotated[int, typer.Option(min=1, help="Command APIs that run, each with WORKERS workers.")] = 1,
    query_apis: Annotated[int, typer.Option(min=1, help="Query APIs that run, each with WORKERS workers.")] = 1,
    event_apis: Annotated[int, typer.Option(min=1, help="Event APIs that run, each with WORKERS workers.")] = 1,
    relays: Annotated[int, typer.Option(min=1, help="Relays that run, those that stand by included.")] = 1,
    projectors: Annotated[int, typer.Option(min=1, help="Projectors processes that run.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Check settings, servers, durability, migrations, topics, connection budget and clocks; exit 1 if any fails."""
    instances = Instances(
        command_apis=command_apis,
        query_apis=query_apis,
        event_apis=event_apis,
        relays=relays,
        projectors=projectors,
    )
    findings = asyncio.run(examine(instances))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _show(findings)
    if any(finding.result == "failed" for finding in findings):
        raise typer.Exit(1)


def _show(findings: list[Finding]) -> None:
    listed = table("", "Check", "Found", "What to do")
    for finding in findings:
        # A server's words may contain what rich would take for markup.
        listed.add_row(_SIGNS[finding.result], *map(Text, (finding.check, finding.found, finding.remedy)))
    print_table(listed)
