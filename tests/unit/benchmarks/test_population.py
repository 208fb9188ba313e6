"""Ids that SQL makes can be made here too, and more users may take longer."""

from benchmarks.catalogue import BENCHMARKS
from benchmarks.population import user_id


def test_ids_grow_with_their_number_and_differ_widely() -> None:
    ids = [user_id(number) for number in range(1, 1000)]

    assert ids == sorted(ids)
    assert len({identifier.int & 0xFFFF for identifier in ids}) > 900
    assert {identifier.version for identifier in ids} == {7}


def test_ten_times_the_users_may_take_ten_times_as_long_and_fewer_no_less() -> None:
    usual = BENCHMARKS["end-to-end"]

    assert usual.seconds_for(10 * usual.users) == 10 * usual.budget_seconds
    assert usual.seconds_for(1) == usual.budget_seconds
