"""Probes take turns, and ratios are taken within a round."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from benchmarks.running.load import open_loop, request
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import NoFigureError, Probe, Rounds, Sample, interleave, pooled
from tests.unit.chassis.transport.serving import listening


def make_plan(*, rounds: int = 2, quick: bool = False) -> Plan:
    return Plan(rounds=rounds, seconds=1, users=1, quick=quick, folder=Path(), say=lambda _: None)


def counting(name: str, calls: list[str]) -> Probe:
    async def probe() -> Sample:
        calls.append(name)
        return Sample(float(len(calls)))

    return probe


async def test_probes_take_turns_and_the_warm_up_is_left_out() -> None:
    calls: list[str] = []

    rounds = await interleave(make_plan(), {"a": counting("a", calls), "b": counting("b", calls)}, unit="calls")

    assert calls == ["a", "b"] * 3
    assert rounds["a"].values == (3.0, 5.0)
    assert rounds["b"].values == (4.0, 6.0)


async def test_a_quick_run_does_not_warm_up() -> None:
    calls: list[str] = []

    await interleave(make_plan(rounds=1, quick=True), {"a": counting("a", calls)}, unit="calls")

    assert calls == ["a"]


def test_ratios_are_taken_within_a_round() -> None:
    # The machine slows to a tenth; the ratio does not notice.
    rounds = Rounds(
        "/s",
        {
            "ours": [Sample(200), Sample(20), Sample(100)],
            "theirs": [Sample(100), Sample(10), Sample(50)],
        },
    )

    ratio = rounds.ratio("ours", "theirs")

    assert ratio.values == (2.0, 2.0, 2.0)
    assert ratio.variation == pytest.approx(1.0)  # which the noise guard does


def test_a_ratio_of_parts_can_be_guarded_by_another_part() -> None:
    parts = [{"p50": 1.0, "p99": 10.0}, {"p50": 1.1, "p99": 30.0}]
    rounds = Rounds("/s", {"ours": [Sample(1, p) for p in parts], "theirs": [Sample(1, p) for p in parts]})

    assert rounds.ratio("ours", "theirs", "p99", guard="p99").variation == pytest.approx(0.5)
    assert rounds.ratio("ours", "theirs", "p99", guard="p50").variation == pytest.approx(0.05 / 1.05)
    assert rounds.part("ours", "p99").values == (10.0, 30.0)


def test_a_percentile_of_all_rounds_does_not_hang_on_one_bad_moment() -> None:
    calm, disturbed = [1.0] * 50, [1.0] * 49 + [100.0]
    rounds = Rounds(
        "ms",
        {
            "ours": [Sample(1, {"p50": 1.0}, disturbed), *[Sample(1, {"p50": 1.0}, [3.0] * 50)] * 4],
            "theirs": [*[Sample(1, {"p50": 1.0}, calm)] * 4, Sample(1, {"p50": 1.1}, disturbed)],
        },
    )

    ratio = rounds.tails("ours", "theirs", 0.99, guard="p50")

    assert ratio.values == (3.0,) * 5  # in each of the five are four rounds of either side
    assert ratio.variation == pytest.approx(0.1)
    assert len(rounds.each("ours")) == 250
    assert max(rounds.each("ours", but=0)) == 3.0


def test_a_percentile_of_all_rounds_misses_the_one_without_a_figure_and_is_that_of_an_only_round() -> None:
    one, none = Sample(1, {"p50": 1.0}, [3.0] * 50), Sample(math.nan)

    missed = Rounds("ms", {"ours": [one, none, one], "theirs": [one] * 3}).tails("ours", "theirs", 0.99, guard="p50")
    quick = Rounds("ms", {"ours": [one], "theirs": [one]}).tails("ours", "theirs", 0.99, guard="p50")

    assert (missed.values, missed.missing) == ((1.0, 1.0), 1)
    assert quick.values == (1.0,)


def test_turns_are_pooled_to_rounds_by_their_means() -> None:
    samples = [Sample(float(value), {"p50": value / 10}) for value in (10, 30, 20, 40)]

    rounds = pooled(Rounds("/s", {"ours": samples}), 2)

    assert rounds["ours"].values == (20.0, 30.0)
    assert rounds.part("ours", "p50").values == (2.0, 3.0)


async def test_a_reference_without_a_figure_is_said_and_the_rounds_go_on() -> None:
    told: list[str] = []
    plan = Plan(rounds=2, seconds=1, users=1, quick=True, folder=Path(), say=told.append)
    results: Iterator[NoFigureError | Sample] = iter([NoFigureError("it relayed nothing"), Sample(2.0, {"cpu": 4.0})])

    async def theirs() -> Sample:
        result = next(results)
        if isinstance(result, NoFigureError):
            raise result
        return result

    async def ours() -> Sample:
        return Sample(6.0, {"cpu": 1.0})

    rounds = await interleave(plan, {"ours": ours, "theirs": theirs}, unit="/s")

    assert any("it relayed nothing" in line for line in told)
    assert rounds["theirs"].values == (2.0,)
    assert rounds.part("theirs", "cpu").values == (4.0,)
    ratio = rounds.ratio("ours", "theirs", "cpu")
    assert (ratio.values, ratio.missing) == ((0.25,), 1)


def test_a_reference_that_did_nothing_in_a_round_has_no_ratio_there() -> None:
    rounds = Rounds("/s", {"ours": [Sample(4), Sample(4)], "theirs": [Sample(0), Sample(2)]})

    ratio = rounds.ratio("ours", "theirs")

    assert (ratio.values, ratio.missing) == ((2.0,), 1)


def test_a_turn_without_a_figure_leaves_its_round_without_one() -> None:
    samples = [Sample(math.nan), Sample(2.0, {"p50": 1.0}), Sample(4.0, {"p50": 2.0}), Sample(6.0, {"p50": 4.0})]

    rounds = pooled(Rounds("/s", {"theirs": samples}), 2)

    assert (rounds["theirs"].values, rounds.part("theirs", "p50").values) == ((5.0,), (3.0,))


def test_what_is_made_of_two_figures_is_made_round_by_round() -> None:
    rounds = Rounds(
        "ms", {"ours": [Sample(5), Sample(math.nan), Sample(9)], "theirs": [Sample(1), Sample(2), Sample(3)]}
    )

    beyond = rounds.combined("ours", "theirs", lambda one, other: one - other)

    assert (beyond.values, beyond.missing) == ((4.0, 6.0), 1)


async def test_what_is_answered_while_a_load_settles_does_not_count_as_served() -> None:
    async with listening() as listener:
        asked = partial(open_loop, listener.address[1], lambda: request("/"), rate=10, connections=4)
        settled = await asked(seconds=0.2, settle=1)

    assert len(settled.accepted) == 12
    assert 0 < settled.served < 12


async def test_a_probe_that_takes_too_long_is_said_and_the_rounds_go_on() -> None:
    async def late() -> Sample:
        raise TimeoutError

    said: list[str] = []
    plan = replace(make_plan(rounds=1, quick=True), say=said.append)

    rounds = await interleave(plan, {"a": late, "b": counting("b", [])}, unit="calls")

    assert (rounds["a"].missing, rounds["b"].values) == (1, (1.0,))
    assert said[0] == "round 1/1: a: it took too long"
