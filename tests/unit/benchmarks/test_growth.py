"""What grows is judged beside what is less, and one picture shows all of it."""

import math

import pytest

from benchmarks.end_to_end.auditing import Audited
from benchmarks.growth.curves import Growth
from benchmarks.reporting.bars import Verdict
from benchmarks.reporting.figures import Figure, figure_of
from benchmarks.reporting.result import Claim, Result


def told(growth: Growth) -> dict[str, Claim]:
    result = Result("Growth")
    growth.tell(result)
    [plot] = result.plots
    assert plot.lines.keys() == {*growth.flat, "audit, for each user", "rebuild, for each user"}
    return {claim.name: claim for claim in result.claims}


@pytest.fixture
def growth() -> Growth:
    made = Growth()
    for size in (1_000, 10_000, 100_000):
        for curve in made.flat.values():
            curve[size] = Figure((0.5,) * 5)
        made.audits[size], made.audit[size] = size / 10_000, Figure((0.1,) * 5)
        made.rebuilds[size] = size / 10_000
    return made


def test_requests_are_judged_beside_the_fewest_users_and_an_audit_beside_a_tenth(growth: Growth) -> None:
    growth.flat["page of 50"][100_000] = Figure((1.0,) * 5)
    growth.audit[1_000], growth.audit[100_000] = Figure((10.0,) * 5), Figure((0.12,) * 5)

    claims = told(growth)

    assert claims["page of 50: at 100,000 users / at 1,000"].verdict is Verdict.MISSED
    assert claims["user by id: at 100,000 users / at 1,000"].verdict is Verdict.HOLDS
    audit = claims["audit, for each user: at 100,000 users / at 10,000"]
    assert audit.figure.median == pytest.approx(1.2)
    assert audit.verdict is Verdict.HOLDS


def test_what_gave_no_figure_is_said(growth: Growth) -> None:
    growth.flat["page of 50"][1_000] = figure_of([math.nan] * 5)

    claim = told(growth)["page of 50: at 100,000 users / at 1,000"]

    assert (claim.verdict, claim.figure.gap) == (Verdict.NOT_CLAIMED, "no figure in 5 of 5 rounds")


def test_one_size_alone_is_judged_beside_nothing() -> None:
    growth = Growth({"page of 50": {2_000: Figure((0.5,))}}, {2_000: Figure((0.1,))}, {2_000: 0.2}, {})

    assert told(growth) == {}


def test_a_walk_is_divided_into_parts_of_as_many_ranges() -> None:
    audit = Audited(ranges=[(100, 0.1), (100, 0.3), (100, 0.2), (100, 0.2)])

    assert audit.milliseconds_a_user(2).values == pytest.approx((2.0, 2.0))
    assert audit.milliseconds_a_user(5).values == pytest.approx((1.0, 3.0, 2.0, 2.0))
    assert audit.seconds == pytest.approx(0.8)


def test_a_part_without_users_gives_no_figure() -> None:
    assert Audited(ranges=[(100, 0.1), (0, 0.1)]).milliseconds_a_user(2).gap == "no figure in 1 of 2 rounds"
