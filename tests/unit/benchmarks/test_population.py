"""Ids that SQL makes can be made here too; more users may take longer, and what is flat stays flat."""

from benchmarks.catalogue import BENCHMARKS
from benchmarks.growth.curves import FLAT, Growth
from benchmarks.population import user_id
from benchmarks.reporting.bars import Verdict
from benchmarks.reporting.figures import Figure
from benchmarks.reporting.result import Result


def test_ids_grow_with_their_number_and_differ_widely() -> None:
    ids = [user_id(number) for number in range(1, 1000)]

    assert ids == sorted(ids)
    assert len({identifier.int & 0xFFFF for identifier in ids}) > 900
    assert {identifier.version for identifier in ids} == {7}


def test_ten_times_the_users_may_take_ten_times_as_long_and_fewer_no_less() -> None:
    usual = BENCHMARKS["end-to-end"]

    assert usual.seconds_for(10 * usual.users) == 10 * usual.budget_seconds
    assert usual.seconds_for(1) == usual.budget_seconds


def grown(most: float) -> Growth:
    """Every curve doubles its users twice, and ends with so many milliseconds where it began with one."""
    sizes = {1000: 1.0, 2000: 1.0, 4000: most}
    return Growth(flat={name: {size: Figure((value,) * 5) for size, value in sizes.items()} for name in FLAT})


def test_what_grows_with_the_users_misses_its_bar() -> None:
    flat, steep = Result("flat"), Result("steep")

    grown(1.2).tell(flat)
    grown(1.4).tell(steep)

    assert [claim.name for claim in flat.claims] == [f"{name}: at 4,000 users / at 1,000" for name in FLAT]
    assert {claim.verdict for claim in flat.claims} == {Verdict.HOLDS}
    assert {claim.verdict for claim in steep.claims} == {Verdict.MISSED}


def test_one_size_says_nothing_of_growth() -> None:
    result = Result("one")

    Growth(flat={name: {1000: Figure((1.0,) * 5)} for name in FLAT}).tell(result)

    assert result.claims == []
