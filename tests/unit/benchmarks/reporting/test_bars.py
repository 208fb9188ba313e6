"""What may be said of a figure: that it reaches its bar, misses it, or that nobody can tell."""

import math
import time

import pytest

from benchmarks.reporting.bars import Bar, Verdict
from benchmarks.reporting.document import said
from benchmarks.reporting.figures import Figure, figure_of
from benchmarks.reporting.result import Result
from benchmarks.running.cores import ALL_CORES
from benchmarks.running.quiet import Quiet, disturbance

CALM = (2.0, 2.0, 2.1, 2.0, 1.9)


@pytest.mark.parametrize(
    ("bar", "verdict"),
    [
        (Bar(2.0, at_least=True), Verdict.HOLDS),
        (Bar(2.1, at_least=True), Verdict.MISSED),
        (Bar(2.0, at_least=False), Verdict.HOLDS),
        (Bar(1.9, at_least=False), Verdict.MISSED),
    ],
)
def test_the_median_decides(bar: Bar, verdict: Verdict) -> None:
    assert bar.verdict(Figure(CALM)) is verdict


def test_nothing_is_claimed_while_the_reference_varies_by_more_than_a_quarter() -> None:
    bar = Bar(1.0, at_least=True)

    assert bar.verdict(Figure(CALM, variation=0.25)) is Verdict.HOLDS
    assert bar.verdict(Figure(CALM, variation=0.26)) is Verdict.NOISY


def test_nothing_is_claimed_of_fewer_than_five_rounds() -> None:
    assert Bar(1.0, at_least=True).verdict(Figure(CALM[:4])) is Verdict.NOT_CLAIMED


def test_a_bar_for_every_round_judges_the_worst_whatever_the_spread() -> None:
    figure = Figure((1.0, 1.0, 1.1, 1.0, 1.9), variation=0.9)

    assert Bar(1.9, at_least=False, every_round=True).verdict(figure) is Verdict.HOLDS
    assert Bar(1.8, at_least=False, every_round=True).verdict(figure) is Verdict.MISSED
    assert Bar(1.0, at_least=True, every_round=True).verdict(figure) is Verdict.HOLDS
    assert Bar(1.1, at_least=True, every_round=True).verdict(figure) is Verdict.MISSED
    assert Bar(9.0, at_least=False, every_round=True).verdict(Figure((1.0,))) is Verdict.NOT_CLAIMED
    assert str(Bar(2, at_least=False, every_round=True)) == "≤ 2 in every round"


def test_a_count_is_claimed_as_it_is() -> None:
    assert Bar(0, at_least=False).verdict(Figure.once(0)) is Verdict.HOLDS
    assert Bar(0, at_least=False).verdict(Figure.once(1)) is Verdict.MISSED


def test_nothing_but_a_count_is_claimed_while_others_use_the_machine() -> None:
    result = Result("Something")
    result.claim("time", Figure(CALM), at_least=1)
    result.claim("count", Figure.once(0), at_most=0)

    result.disturb("other processes used 0.9 cores")

    assert [claim.verdict for claim in result.claims] == [Verdict.NOISY, Verdict.HOLDS]
    assert said(result.claims[0]) == "too noisy to claim (other processes used 0.9 cores)"


def test_a_quick_run_claims_not_even_a_count() -> None:
    result = Result("Something")
    result.claim("time", Figure(CALM), at_least=1)
    result.claim("count", Figure.once(0), at_most=0)

    result.withhold()

    assert [claim.verdict for claim in result.claims] == [Verdict.NOT_CLAIMED, Verdict.NOT_CLAIMED]


def test_others_are_told_from_what_we_use_ourselves() -> None:
    quiet = Quiet()
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass

    assert quiet.others() < len(ALL_CORES)
    assert disturbance(0.0) == ""
    assert disturbance(len(ALL_CORES) * 0.5).startswith("other processes used")


def test_a_result_holds_until_a_bar_is_missed() -> None:
    result = Result("Something")
    result.claim("calm", Figure(CALM), at_least=1)
    result.claim("noisy", Figure(CALM, variation=1.0), at_least=100)
    assert result.holds

    result.claim("missed", Figure(CALM), at_least=100)
    assert not result.holds


@pytest.mark.parametrize(("at_least", "at_most"), [(None, None), (1.0, 2.0)])
def test_a_bar_has_one_side(at_least: float | None, at_most: float | None) -> None:
    with pytest.raises(ValueError, match="either at_least or at_most"):
        Result("Something").claim("both", Figure(CALM), at_least=at_least, at_most=at_most)


@pytest.mark.parametrize("every_round", [True, False])
def test_nothing_is_claimed_of_a_count_without_a_figure(every_round: bool) -> None:
    figure = Figure((), counted=True, missing=5)

    assert Bar(0, at_least=False, every_round=every_round).verdict(figure) is Verdict.NOT_CLAIMED


@pytest.mark.parametrize("figures", [[math.nan] * 5, [9.0, 9.0, math.nan, 9.0, 9.0]])
def test_a_result_does_not_hold_where_too_few_rounds_of_a_bar_gave_a_figure(figures: list[float]) -> None:
    result = Result("Nothing")
    result.claim("drain", figure_of(figures), at_least=1)

    assert not result.holds

    result.withhold()
    assert result.holds
