"""A generation beside the command side: what differs, and what was only on its way."""

from uuid import UUID

import pytest

from projectors.operations import rebuild_comparison
from projectors.operations.rebuild_comparison import Kind, Known, Verdict, by_id, came_by, compare

ANN, BOB = UUID(int=1), UUID(int=2)


def living(version: int) -> Known:
    return Known(version, erased=False)


def erased(version: int) -> Known:
    return Known(version, erased=True)


@pytest.mark.parametrize(
    ("known", "shown", "kind"),
    [
        (living(3), living(3), None),
        (living(3), None, Kind.MISSING),
        (living(3), living(2), Kind.BEHIND),
        (living(3), living(4), Kind.AHEAD),
        (living(3), erased(4), Kind.AHEAD),
        (living(3), erased(3), Kind.AHEAD),
        (None, living(1), Kind.UNKNOWN),
        (erased(3), living(2), Kind.BEHIND),
        (erased(3), None, None),
        (erased(3), erased(4), None),
        (None, erased(2), None),
    ],
)
def test_each_way_to_differ_is_told_apart(known: Known | None, shown: Known | None, kind: Kind | None) -> None:
    assert compare(of(known), of(shown)).get(ANN) == kind


@pytest.mark.parametrize(
    ("first", "now", "came"),
    [
        # An event that was on its way, though the command side is further again.
        ((living(3), living(2)), (living(5), living(3)), True),
        ((living(3), None), (living(4), living(3)), True),
        ((living(3), living(2)), (living(4), living(2)), False),
        # Committed between the two looks.
        ((None, living(1)), (living(1), living(1)), True),
        ((living(3), living(4)), (living(4), living(5)), True),
        ((living(3), living(4)), (living(3), living(4)), False),
        ((living(3), erased(3)), (living(3), erased(3)), False),
        # Erased before it was ever shown.
        ((living(3), None), (erased(4), None), True),
    ],
)
def test_what_was_on_its_way_is_no_difference(
    first: tuple[Known | None, Known | None], now: tuple[Known | None, Known | None], *, came: bool
) -> None:
    assert came_by(ANN, (of(first[0]), of(first[1])), (of(now[0]), of(now[1]))) is came


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(("user", "erasure", "known"), [(6, 5, living(6)), (3, 5, living(5)), (5, 5, living(5))])
def test_whoever_is_a_user_and_erased_is_shown(order: int, user: int, erasure: int, known: Known) -> None:
    rows = [{"id": ANN, "version": user, "erased": False}, {"id": ANN, "version": erasure, "erased": True}]
    shown = by_id(rows[::order])
    assert shown == of(known)
    assert ANN in compare(of(erased(5)), shown)


def test_a_verdict_counts_and_names_some() -> None:
    verdict = Verdict()
    assert str(verdict) == ""
    verdict.add({ANN: Kind.MISSING, BOB: Kind.AHEAD})

    assert str(verdict) == f"1 ahead, such as {BOB}; 1 missing, such as {ANN}"


def test_a_verdict_lists_more_than_it_names_and_not_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild_comparison, "LISTED", 7)
    verdict = Verdict()
    people = [UUID(int=number) for number in range(9)]
    verdict.add(dict.fromkeys(reversed(people), Kind.BEHIND))

    assert verdict.ids == {Kind.BEHIND: people[:7]}
    assert str(verdict) == f"9 behind, such as {people[0]}, {people[1]}, {people[2]}"


@pytest.mark.parametrize(
    ("kinds", "advised", "not_advised"),
    [
        ([Kind.MISSING, Kind.BEHIND], ["events refill", "repair ID…"], ["--ahead", "import"]),
        ([Kind.AHEAD], ["repair --ahead", "repair ID…"], ["events refill", "import"]),
        ([Kind.UNKNOWN], ["import by id", "repair ID…"], ["events refill", "--ahead"]),
        (list(Kind), ["events refill", "repair --ahead", "import by id"], []),
    ],
)
def test_what_is_advised_goes_by_how_they_differ(kinds: list[Kind], advised: list[str], not_advised: list[str]) -> None:
    verdict = Verdict()
    for number, kind in enumerate(kinds):
        verdict.add({UUID(int=number): kind})

    assert all(words in verdict.remedy for words in advised)
    assert not any(words in verdict.remedy for words in not_advised)
    assert verdict.remedy.count("events refill") <= 1, "each is said once"


def of(value: Known | None) -> dict[UUID, Known]:
    return {} if value is None else {ANN: value}
