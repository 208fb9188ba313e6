"""Medians, ranges, percentiles and how they are written."""

import math

import pytest

from benchmarks.reporting.figures import Figure, number, percentile, span, variation_of


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
