"""Ids that SQL makes can be made here too."""

from benchmarks.population import user_id


def test_ids_grow_with_their_number_and_differ_widely() -> None:
    ids = [user_id(number) for number in range(1, 1000)]

    assert ids == sorted(ids)
    assert len({identifier.int & 0xFFFF for identifier in ids}) > 900
    assert {identifier.version for identifier in ids} == {7}
