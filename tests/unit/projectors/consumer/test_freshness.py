"""Up to which time everything has been seen, by no clock but the database server's."""

from datetime import UTC, datetime
from typing import Any

from aiokafka import ConsumerRecord

from projectors.consumer.freshness import Freshness, ServerClock


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def clock() -> ServerClock:
    """The server is 100 s ahead of our monotonic clock."""
    clock = ServerClock()
    clock.note(at(107), heard=7.0)
    return clock


def appended(seconds: float, *, by_broker: bool = True) -> ConsumerRecord[Any, Any]:
    return ConsumerRecord("t", 0, 0, int(seconds * 1000), int(by_broker), None, b"", 0, 0, 0, ())


def test_nothing_is_sure_before_the_second_answer() -> None:
    freshness = Freshness()
    freshness.observe(None, 0.0)
    assert freshness.seen_until(clock(), at_end=True, last=None) is None
    freshness.observe(1000, 1.0)
    assert freshness.seen_until(clock(), at_end=True, last=None) is None


def test_at_the_end_a_moment_before_the_answer_before_the_newest_is_sure() -> None:
    freshness = Freshness()
    # The broker's answers bear any time at all: a clock that was set back and forth.
    for answer, now in ((None, 0.0), (1000, 1.0), (9_000_000, 2.0), (9_000_000, 3.0), (500, 4.0)):
        freshness.observe(answer, now)
    assert freshness.seen_until(clock(), at_end=True, last=appended(7)) == at(101)
    assert freshness.seen_until(ServerClock(), at_end=True, last=None) is None


def test_behind_the_end_only_the_last_record_is_sure_and_only_by_the_brokers_time() -> None:
    freshness = Freshness()
    for answer in (1000, 1500):
        freshness.observe(answer, answer / 1000)
    assert freshness.seen_until(clock(), at_end=False, last=appended(7)) == at(7)
    assert freshness.seen_until(clock(), at_end=False, last=appended(7, by_broker=False)) is None
    assert freshness.seen_until(clock(), at_end=False, last=None) is None
