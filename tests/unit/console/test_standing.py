"""How far a subscriber is, of what the event API and Kafka said."""

from typing import Any

import pytest

from console.subscribers.standing import NEAR, may_be_pending, near_the_end, standings


def said(name: str, offsets: list[int | None] | None) -> dict[str, Any]:
    return {"name": name, "group": None, "owner": None, "acknowledged_at": None, "offsets": offsets}


def erasure(partition: int | None, offset: int | None) -> dict[str, Any]:
    return {"partition": partition, "offset": offset}


@pytest.mark.parametrize(
    ("offsets", "behind", "up_to_date"),
    [
        ([10, 5], 0, True),
        ([9, 4], 2, False),
        ([8, 5], 2, False),
        ([None, 5], 10, False),
        # Where the topic was looked at before the subscriber went on.
        ([11, 5], 0, True),
        (None, None, False),
    ],
)
def test_who_has_read_every_record_is_up_to_date(
    offsets: list[int | None] | None, behind: int | None, *, up_to_date: bool
) -> None:
    [standing] = standings([said("a", offsets)], {0: 10, 1: 5}, [])

    assert (standing.behind, standing.is_up_to_date) == (behind, up_to_date)


def test_records_are_looked_for_from_the_first_who_is_near_an_end_and_not_there() -> None:
    ends = {0: 1000, 1: 5, 2: 7}
    people = [said("a", [1000 - NEAR - 1, None, 7]), said("b", [999, 4, 7]), said("c", [990, 5, 7]), said("d", None)]

    assert near_the_end(people, ends) == {0: 990, 1: 0}


def test_without_the_ends_nothing_is_said_of_how_far_behind_anybody_is() -> None:
    [standing] = standings([said("a", [10, 5])], None, [])

    assert (standing.behind, standing.is_up_to_date) == (None, False)


@pytest.mark.parametrize(("offsets", "pending"), [([8, 0], False), ([7, 0], True), ([None, 9], True), (None, True)])
def test_an_erasure_is_read_by_whoever_is_past_its_record(offsets: list[int | None] | None, *, pending: bool) -> None:
    assert may_be_pending(erasure(0, 7), [said("a", offsets)]) is pending
    assert standings([said("a", offsets)], None, [erasure(0, 7)])[0].unread == pending


def test_of_an_erasure_without_a_place_nothing_is_said() -> None:
    assert not may_be_pending(erasure(None, None), [said("a", None)])


def test_those_who_have_not_read_of_erasures_come_first_then_those_who_lag() -> None:
    people = [said("done", [10]), said("slow", [3]), said("late", [1]), said("lost", None)]

    assert [each.name for each in standings(people, {0: 10}, [erasure(0, 2)])] == ["late", "lost", "slow", "done"]
