"""Up to which time everything has been seen, by no clock but the database server's."""

from datetime import UTC, datetime

from projectors.consumer import freshness as freshness_module
from projectors.consumer.freshness import Freshness, ServerClock


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def clock() -> ServerClock:
    """The server is 100 s ahead of our monotonic clock."""
    clock = ServerClock()
    clock.note(at(107), heard=7.0)
    return clock


def observed(*answers: tuple[int | None, int | None, float]) -> Freshness:
    freshness = Freshness()
    for answer in answers:
        freshness.observe(*answer)
    return freshness


def test_nothing_is_sure_before_the_second_answer() -> None:
    assert observed((None, 5, 0.0)).seen_until(clock(), 5) is None
    assert observed((None, 5, 0.0), (1000, 5, 1.0)).seen_until(clock(), 5) is None


def test_at_the_end_a_moment_before_the_answer_before_the_newest_is_sure() -> None:
    # The broker's answers bear any time at all: a clock that was set back and forth.
    answers = ((None, 5, 0.0), (1000, 5, 1.0), (9_000_000, 5, 2.0), (9_000_000, 5, 3.0), (500, 5, 4.0))
    assert observed(*answers).seen_until(clock(), 5) == at(101)
    assert observed(*answers).seen_until(ServerClock(), 5) is None


def test_behind_the_end_the_ends_that_were_given_earlier_are_reached_one_after_the_other() -> None:
    freshness = observed(*((second, 10 * second, float(second)) for second in range(10)))
    assert freshness.seen_until(clock(), 19) is None
    assert [freshness.seen_until(clock(), position) for position in (20, 39, 40, 95)] == [
        at(100), at(101), at(102), at(107),
    ]  # fmt: skip


def test_an_end_that_goes_back_counts_as_the_newest_says() -> None:
    freshness = observed((1, 5, 1.0), (2, 50, 2.0), (3, 50, 3.0), (4, 7, 4.0))
    assert freshness.seen_until(clock(), 7) == at(102)


def test_however_long_one_is_behind_some_ends_are_remembered_and_the_newest_is() -> None:
    freshness = observed(*((second, 10 * second, float(second)) for second in range(10_000)))
    assert len(freshness._ends) <= freshness_module.ENDS
    between = freshness.seen_until(clock(), 50_000)
    assert between is not None
    assert at(100 + 4500) < between <= at(100 + 5000)
    assert freshness.seen_until(clock(), 99_990) == at(100 + 9997)


def test_whether_the_broker_answers_is_told_by_our_monotonic_clock() -> None:
    freshness = observed((1_000, 5, 1.0), (1_500, 5, 2.0), (1_500, 5, 60.0))
    assert freshness.heard == 2.0
    freshness.observe(-86_400_000, 5, 61.0)
    assert freshness.heard == 61.0, "a wall clock that was set back"
