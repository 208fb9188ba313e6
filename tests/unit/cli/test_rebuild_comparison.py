"""A generation beside the command side: what differs, and what was only on its way."""

from typing import TypeVar
from uuid import UUID

import pytest

from cli.operations.rebuild_comparison import Kind, Known, Verdict, came_by, compare

T = TypeVar("T")
ANN, BOB = UUID(int=1), UUID(int=2)
LIVING, ERASED = Known(3, erased=False), Known(3, erased=True)


@pytest.mark.parametrize(
    ("known", "shown", "kind"),
    [
        (LIVING, 3, None),
        (LIVING, None, Kind.MISSING),
        (LIVING, 2, Kind.BEHIND),
        (LIVING, 4, Kind.AHEAD),
        (None, 1, Kind.UNKNOWN),
        (ERASED, 3, None),
        (ERASED, None, None),
        (ERASED, 2, Kind.BEHIND),
    ],
)
def test_each_way_to_differ_is_told_apart(known: Known | None, shown: int | None, kind: Kind | None) -> None:
    assert compare(of(known), of(shown)).get(ANN) == kind


@pytest.mark.parametrize(
    ("first", "now", "came"),
    [
        # An event that was on its way, though the command side is further again.
        ((LIVING, 2), (Known(5, erased=False), 3), True),
        ((LIVING, None), (Known(4, erased=False), 3), True),
        ((LIVING, 2), (Known(4, erased=False), 2), False),
        # Committed between the two looks.
        ((None, 1), (Known(1, erased=False), 1), True),
        ((LIVING, 4), (Known(4, erased=False), 5), True),
        ((LIVING, 4), (LIVING, 4), False),
        # Erased before it was ever shown.
        ((LIVING, None), (Known(4, erased=True), None), True),
    ],
)
def test_what_was_on_its_way_is_no_difference(
    first: tuple[Known | None, int | None], now: tuple[Known | None, int | None], *, came: bool
) -> None:
    assert came_by(ANN, (of(first[0]), of(first[1])), (of(now[0]), of(now[1]))) is came


def test_a_verdict_counts_and_names_some() -> None:
    verdict = Verdict()
    assert str(verdict) == ""
    verdict.add({ANN: Kind.MISSING, BOB: Kind.AHEAD})

    assert str(verdict) == f"1 ahead, such as {BOB}; 1 missing, such as {ANN}"


def of(value: T | None) -> dict[UUID, T]:
    return {} if value is None else {ANN: value}
