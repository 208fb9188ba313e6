"""A benchmark's result with its circumstances, and as a JSON document."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from benchmarks.catalogue import Benchmark
from benchmarks.reporting.bars import Verdict
from benchmarks.reporting.figures import Figure
from benchmarks.reporting.result import Claim, Result
from benchmarks.running.plan import Plan


@dataclass(frozen=True, slots=True)
class Report:
    """A result with everything that reproduces it; `seconds` is what the whole benchmark took."""

    benchmark: Benchmark
    plan: Plan
    result: Result
    machine: dict[str, str]
    seconds: float
    started_at: datetime

    @property
    def command(self) -> str:
        """Return the command that reproduces it."""
        return f"make bench-{self.benchmark.name}"


def said(claim: Claim) -> str:
    """Return the verdict in words, with the reason where the bar is missed and one is known."""
    words = f"{claim.verdict.value}, {claim.figure.gap}" if claim.figure.gap else str(claim.verdict.value)
    match claim.verdict:
        case Verdict.NOISY if claim.disturbance:
            return f"{words} ({claim.disturbance})"
        case Verdict.NOISY:
            return f"{words} (the reference varied by {claim.figure.variation:.0%})"
        case Verdict.MISSED if claim.reason:
            return f"{words}: {claim.reason}"
        case _:
            return words


def as_json(report: Report) -> dict[str, Any]:
    """Return the JSON document; figures keep every round."""
    result = report.result
    return {
        "benchmark": report.benchmark.name,
        "title": result.title,
        "command": report.command,
        "started_at": report.started_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "seconds": round(report.seconds, 1),
        "plan": {
            "rounds": report.plan.rounds,
            "seconds": report.plan.seconds,
            "users": report.plan.users,
            "quick": report.plan.quick,
        },
        "machine": report.machine,
        "facts": result.facts,
        "notes": result.notes,
        "measurements": [
            {
                "name": item.name,
                "unit": item.unit,
                "note": item.note,
                **_figure(item.figure),
                "further": {name: _figure(figure) for name, figure in item.further.items()},
            }
            for item in result.measurements
        ],
        "bars": [
            {
                "name": claim.name,
                "unit": claim.unit,
                "bar": str(claim.bar),
                "verdict": claim.verdict.name.lower(),
                "said": said(claim),
                **_figure(claim.figure),
            }
            for claim in result.claims
        ],
        "plots": [{"name": plot.name, "lines": plot.lines} for plot in result.plots],
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {
        "median": figure.median if figure.rounds else None,
        "low": figure.low if figure.rounds else None,
        "high": figure.high if figure.rounds else None,
        "rounds": list(figure.values),
        "missing": figure.missing,
        "variation": round(figure.variation, 3),
    }
