"""Up to which time everything has been seen."""

from datetime import UTC, datetime

from projectors.consumer.freshness import Freshness


def at(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def test_nothing_is_sure_before_the_second_answer() -> None:
    freshness = Freshness()
    freshness.observe(None)
    assert freshness.seen_until(at_end=True, last_record=None) is None
    freshness.observe(1000)
    assert freshness.seen_until(at_end=True, last_record=None) is None


def test_at_the_end_the_answer_before_the_newest_is_sure() -> None:
    freshness = Freshness()
    for answer in (1000, 1500, 1500, 2000):
        freshness.observe(answer)
    assert freshness.seen_until(at_end=True, last_record=700) == at(1500)


def test_behind_the_end_only_the_last_record_is_sure() -> None:
    freshness = Freshness()
    freshness.observe(1000)
    freshness.observe(1500)
    assert freshness.seen_until(at_end=False, last_record=700) == at(700)
    assert freshness.seen_until(at_end=False, last_record=None) is None
