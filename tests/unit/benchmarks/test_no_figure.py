"""What gave no figure is said where it would have stood: no crash, and no figure of something else."""

import math
from pathlib import Path

import pytest

from benchmarks.cold_start.run import tell
from benchmarks.projections.memory import Look, replay_rate, size_at
from benchmarks.query.run import Ports, latencies
from benchmarks.reporting.result import Result
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Rounds, Sample
from benchmarks.subscribers.streams import sample_of


def test_a_step_that_a_start_did_not_report_has_no_figure_for_that_start() -> None:
    result = Result("Cold start")

    tell(result, 6.0, {}, [4.0, 5.0], [{"Kafka": 2.0}, {}])

    [kafka] = [item for item in result.measurements if item.name == "second start: Kafka"]
    assert (kafka.figure.values, kafka.figure.gap) == ((2.0,), "no figure in 1 of 2 rounds")


def test_a_replay_has_a_rate_from_its_first_look_to_where_it_first_stood_still() -> None:
    looks = [Look(1.0, 100, 50.0), Look(2.0, 300, 60.0), Look(3.0, 300, 70.0)]

    assert replay_rate(looks) == pytest.approx(200)
    assert size_at(looks, 100) == pytest.approx(50)


@pytest.mark.parametrize("looks", [[], [Look(1.0, 100, 50.0)]])
def test_a_replay_that_nobody_saw_move_has_no_rate(looks: list[Look]) -> None:
    assert math.isnan(replay_rate(looks))


def test_a_rebuild_that_nobody_saw_has_no_size() -> None:
    assert math.isnan(size_at([], 100))


def test_who_has_not_had_everything_has_no_percentile() -> None:
    assert math.isnan(sample_of([1.0, 2.0], 3).figure("deliveries"))
    assert math.isnan(sample_of([], 0).value)
    assert sample_of([1.0, 2.0], 2).figure("p50") == pytest.approx(1)


async def test_what_has_no_peak_is_not_asked_at_half_of_it() -> None:
    plan = Plan(rounds=1, seconds=1, users=1, quick=True, folder=Path(), say=lambda _: None)
    peak = Rounds("requests/s", {name: [Sample(math.nan)] for name in ("list 50", "by id")})
    result = Result("Query API")

    await latencies(plan, result, peak, Ports(0, 0, 0, 0, 0))

    assert not result.measurements
