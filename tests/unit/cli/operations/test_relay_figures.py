"""Quantiles from a relay's histogram, and what is said of a relay that does not answer."""

import pytest

from cli.operations.relay_figures import relay_document, relay_lines
from outbox.figures import RelayFigures, quantile

BUCKETS = [(0.01, 50.0), (0.02, 90.0), (0.1, 100.0), (float("inf"), 100.0)]


@pytest.mark.parametrize(
    ("wanted", "seconds"), [(0.25, 0.005), (0.5, 0.01), (0.7, 0.015), (0.95, 0.06), (0.99, 0.092), (1.0, 0.1)]
)
def test_a_quantile_is_interpolated_within_its_bucket(wanted: float, seconds: float) -> None:
    assert quantile(BUCKETS, wanted) == pytest.approx(seconds)


def test_a_quantile_above_the_last_bound_is_that_bound() -> None:
    assert quantile([(0.01, 10.0), (60.0, 10.0), (float("inf"), 100.0)], 0.99) == 60.0


def test_empty_buckets_are_passed_over() -> None:
    assert quantile([(0.01, 0.0), (0.02, 0.0), (0.1, 4.0), (float("inf"), 4.0)], 0.5) == pytest.approx(0.06)


def test_a_relay_that_does_not_answer_is_one_line_and_nulls() -> None:
    figures = RelayFigures("http://127.0.0.1:8002", error="All connection attempts failed")

    assert relay_lines(figures) == ["relay at http://127.0.0.1:8002: does not answer (All connection attempts failed)"]
    assert relay_document(figures)["published"] is None
    assert relay_document(figures)["error"] == "All connection attempts failed"
