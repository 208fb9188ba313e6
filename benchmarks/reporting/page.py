"""A result as a Markdown page."""

from collections.abc import Iterable
from pathlib import Path

from benchmarks.reporting.document import Report, said
from benchmarks.reporting.figures import number, span


def page(report: Report, pictures: list[tuple[str, Path]]) -> str:
    """The page; `pictures` are (title, file beside the page)."""
    result = report.result
    made = f"Made by `{report.command}` on {report.started_at:%d %B %Y} in {report.seconds:.0f} s: {_extent(report)}."
    parts = [f"# {result.title}", f"{made} How it is measured: [Benchmarks](README.md).", " ".join(result.notes)]
    if result.claims:
        rows = (
            (
                claim.name,
                f"**{number(claim.figure.median)}** {claim.unit}",
                span(claim.figure),
                str(claim.bar),
                said(claim),
            )
            for claim in result.claims
        )
        parts += ["## Bars", _table(("", "median", "min – max", "bar", "verdict"), rows)]
    rows = (
        (item.name, f"**{number(item.figure.median)}**", span(item.figure), item.unit, item.remark)
        for item in result.measurements
    )
    parts += ["## Measured", _table(("", "median", "min – max", "unit", ""), rows)]
    parts += [f"![{title}]({file.name})" for title, file in pictures]
    parts += ["## Circumstances", _table(("", ""), {**result.facts, **report.machine}.items())]
    return "\n\n".join(part for part in parts if part) + "\n"


def _extent(report: Report) -> str:
    plan = report.plan
    return f"{plan.rounds} rounds, {plan.seconds:g} s a probe, {plan.users:,} users"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
