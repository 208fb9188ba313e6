"""Medians, ranges, percentiles and how they are written."""

import math

import pytest

from benchmarks.reporting.figures import Figure, figure_of, number, percentile, quotient, span, variation_of


def test_a_figure_is_the_median_of_its_rounds_with_their_range() -> None:
    figure = Figure((3.0, 1.0, 2.0, 5.0, 4.0))

    assert (figure.median, figure.low, figure.high, figure.rounds) == (3.0, 1.0, 5.0, 5)


def test_variation_is_the_farthest_round_from_the_median_as_a_part_of_it() -> None:
    assert variation_of([90, 100, 115]) == pytest.approx(0.15)
    assert variation_of([70, 100, 115]) == pytest.approx(0.3)


def test_rounds_around_nothing_vary_without_end() -> None:
    assert variation_of([0, 0, 1]) == math.inf


@pytest.mark.parametrize(("part", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_percentile_is_the_nearest_rank(part: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), part) == expected


def test_nothing_has_no_percentile() -> None:
    assert math.isnan(percentile([], 0.5))


@pytest.mark.parametrize(("value", "written"), [(12345.6, "12,346"), (0.01234, "0.0123"), (3.14159, "3.14"), (0, "0")])
def test_numbers_keep_three_digits_that_count(value: float, written: str) -> None:
    assert number(value) == written


def test_a_single_value_has_no_range() -> None:
    assert span(Figure.once(7)) == ""
    assert span(Figure((1.0, 2.0))) == "1 – 2"


def test_a_round_without_a_figure_is_left_out_and_said() -> None:
    figure = figure_of([1.0, math.nan, 3.0])

    assert (figure.values, figure.median, figure.gap) == ((1.0, 3.0), 2.0, "no figure in 1 of 3 rounds")
    assert figure.variation == variation_of([1.0, 3.0])
    assert figure_of([1.0, 2.0]).gap == ""


def test_a_figure_of_no_round_is_said_to_be_none() -> None:
    figure = figure_of([math.nan, math.nan])

    assert (number(figure.median), number(figure.low), number(figure.high)) == ("none", "none", "none")
    assert figure.variation == math.inf


def test_a_quotient_by_nothing_is_no_figure() -> None:
    assert quotient(6, 3) == 2
    assert math.isnan(quotient(6, 0))


def test_a_count_that_nobody_could_make_is_no_figure() -> None:
    figure = Figure.once(math.nan)

    assert (figure.values, figure.gap) == ((), "no figure in 1 of 1 rounds")
