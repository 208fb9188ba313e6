"""A result on the terminal."""

from rich.console import Console
from rich.table import Table

from benchmarks.reporting.bars import Verdict
from benchmarks.reporting.document import Report, said
from benchmarks.reporting.figures import number, span

COLOURS = {Verdict.HOLDS: "green", Verdict.MISSED: "red"}


def show(report: Report, console: Console) -> None:
    """Print figures, then bars."""
    result = report.result
    for note in result.notes:
        console.print(note)
    for name, value in result.facts.items():
        console.print(f"{name}: {value}")
    figures = Table("", "median", "min – max", "unit", "", title=f"{result.title}: measured")
    for item in result.measurements:
        figures.add_row(item.name, number(item.figure.median), span(item.figure), item.unit, item.remark)
    console.print(figures)
    if result.claims:
        bars = Table("", "median", "min – max", "bar", "", title=f"{result.title}: bars")
        for claim in result.claims:
            figure = f"{number(claim.figure.median)} {claim.unit}"
            words = f"[{COLOURS.get(claim.verdict, 'yellow')}]{said(claim)}[/]"
            bars.add_row(claim.name, figure, span(claim.figure), str(claim.bar), words)
        console.print(bars)
    over = report.seconds - report.benchmark.budget_seconds
    console.print(f"{report.seconds:.0f} s" + (f", {over:.0f} s more than its budget" if over > 0 else ""))


def summary(reports: list[Report], console: Console) -> None:
    """Print one line for each benchmark."""
    table = Table("", "seconds", "bars that hold", "missed", "not claimed", title="All benchmarks")
    for report in reports:
        verdicts = [claim.verdict for claim in report.result.claims]
        holds, missed = verdicts.count(Verdict.HOLDS), verdicts.count(Verdict.MISSED)
        table.add_row(
            report.result.title, f"{report.seconds:.0f}", str(holds), str(missed), str(len(verdicts) - holds - missed)
        )
    console.print(table)
