"""How many turns a queue gives in a second: what a pause does to it, and when nothing is known."""

import math
from collections.abc import Iterable

import pytest

from chassis.http.overload.throughput import SAMPLE_SECONDS, SAMPLES, Throughput


def turns(throughput: Throughput, times: Iterable[float]) -> float:
    for time in times:
        throughput.note(time)
    return throughput.best


def steadily(rate: int, seconds: float, *, since: float = 0.0) -> list[float]:
    return [since + number / rate for number in range(int(rate * seconds) + 1)]


def test_nothing_is_known_before_a_sample_is_full() -> None:
    assert turns(Throughput(), steadily(1000, SAMPLE_SECONDS / 2)) == math.inf


def test_it_is_the_pace_of_the_turns() -> None:
    assert turns(Throughput(), steadily(1000, 3)) == pytest.approx(1000, rel=0.02)


def test_turns_that_come_in_batches_are_no_faster() -> None:
    batches = [batch * 0.02 for batch in range(100) for _ in range(20)]

    assert turns(Throughput(), batches) == pytest.approx(1000, rel=0.25)


@pytest.mark.parametrize("before", [0.0, 1.0])
def test_a_pause_is_no_pace(before: float) -> None:
    throughput = Throughput()
    turns(throughput, steadily(1000, before))
    turns(throughput, [before + 1.0])

    assert throughput.best >= 1000 * 0.98
    assert turns(throughput, steadily(1000, 0.2, since=before + 1.0)) == pytest.approx(1000, rel=0.02)


def test_a_pace_that_is_over_is_forgotten() -> None:
    throughput = Throughput()
    turns(throughput, steadily(1000, 1.0))
    slower = turns(throughput, steadily(100, SAMPLES * SAMPLE_SECONDS * 1.2, since=1.0))

    assert slower == pytest.approx(100, rel=0.1)
    throughput.forget()
    assert throughput.best == math.inf
