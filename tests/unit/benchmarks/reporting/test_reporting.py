"""What is written says what holds, what does not and why, and how to make it again."""

import math
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.catalogue import BENCHMARKS
from benchmarks.end_to_end.run import cores_reason
from benchmarks.reporting import terminal
from benchmarks.reporting.document import Report, as_json
from benchmarks.reporting.figures import Figure, figure_of
from benchmarks.reporting.page import page
from benchmarks.reporting.result import Result
from benchmarks.running.plan import Plan

CALM = (2.0, 2.0, 2.1, 2.0, 1.9)


@pytest.fixture
def report() -> Report:
    result = Result("Relay")
    result.note("One of a kind.")
    result.fact("Backlog", "50,000 events")
    result.measured("relay", Figure((100_000.0, 90_000.0, 110_000.0)), "events/s")
    result.claim("reached", Figure(CALM), at_least=1.3)
    result.claim("not reached", Figure(CALM), at_most=1, reason="the broker is slow")
    result.claim("who knows", Figure(CALM, variation=0.4), at_least=1)
    result.measured("nothing", figure_of([math.nan] * 5), "events/s")
    result.claim("no reference", figure_of([math.nan] * 2 + [2.0] * 3), at_least=1)
    plan = Plan(rounds=5, seconds=2, users=1_000_000, quick=False, folder=Path(), say=lambda _: None)
    moment = datetime(2026, 11, 22, 12, tzinfo=UTC)
    return Report(BENCHMARKS["relay"], plan, result, {"Processor": "a fast one"}, 12.3, moment)


def test_the_page_gives_figures_bars_reasons_circumstances_and_the_command(report: Report) -> None:
    text = page(report, [("Relay", Path("relay.svg"))])

    assert "`make bench-relay`" in text
    assert "| relay | **100,000** | 90,000 – 110,000 | events/s |" in text
    assert "| reached | **2** × | 1.9 – 2.1 | ≥ 1.3 | holds |" in text
    assert "| ≤ 1 | missed: the broker is slow |" in text
    assert "| ≥ 1 | too noisy to claim (the reference varied by 40%) |" in text
    assert "| nothing | **none** |  | events/s | no figure in 5 of 5 rounds |" in text
    assert "| ≥ 1 | not claimed: too few rounds, no figure in 2 of 5 rounds |" in text
    assert "![Relay](relay.svg)" in text
    assert "| Backlog | 50,000 events |" in text
    assert "| Processor | a fast one |" in text


def test_the_document_keeps_every_round_and_each_verdict(report: Report) -> None:
    document = as_json(report)

    assert document["measurements"][0]["rounds"] == [100_000.0, 90_000.0, 110_000.0]
    assert [bar["verdict"] for bar in document["bars"]] == ["holds", "missed", "noisy", "not_claimed"]
    assert (document["measurements"][1]["median"], document["measurements"][1]["missing"]) == (None, 5)
    assert document["started_at"] == "2026-11-22T12:00:00Z"


def test_the_terminal_shows_the_same(report: Report) -> None:
    shown = StringIO()

    terminal.show(report, Console(file=shown, width=200))

    for words in ("100,000", "holds", "missed: the broker is slow", "too noisy to claim", "12 s"):
        assert words in shown.getvalue()


def test_a_reason_has_the_figures_of_its_own_run() -> None:
    reason = cores_reason({"the broker": 0.41, "PostgreSQL": 0.23}, pages=118.0)

    assert "0.64 are busy at this rate (the broker 0.41, PostgreSQL 0.23)" in reason
    assert "118 pages a second" in reason
