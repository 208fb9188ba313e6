"""What a process remembers of counters that refuse, by a clock that is passed in."""

import pytest

from command_api.credentials.attempts import refusals
from command_api.credentials.attempts.refusals import ASKING_SECONDS, MEMORY_SECONDS, Refusals
from command_api.credentials.attempts.rule import Counter, TooManyAttemptsError

ANN, BOB = (Counter("identifier", name) for name in (b"ann", b"bob"))


class Remembering:
    """Refusals under a clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.refusals = Refusals(lambda: self.now)

    def seconds(self, counter: Counter) -> int:
        """Retry-After, 0 where the database is to be asked."""
        try:
            self.refusals.check(counter)
        except TooManyAttemptsError as error:
            return error.seconds
        return 0


def test_a_refusal_is_remembered_for_a_second_and_says_when_it_ends() -> None:
    those = Remembering()
    those.refusals.note(ANN, 59.2)

    assert (those.seconds(ANN), those.seconds(BOB)) == (60, 0)
    those.now += 0.5
    assert those.seconds(ANN) == 59
    assert those.refusals
    those.now += MEMORY_SECONDS - 0.5
    assert not those.refusals
    assert those.refusals.expect(ANN)
    assert not those.refusals.expect(BOB)
    assert [those.seconds(ANN) for _ in range(3)] == [0, 59, 59], "one asks the database, and the others wait for it"
    those.now += ASKING_SECONDS
    assert [those.seconds(ANN) for _ in range(2)] == [0, 59], "the next one, where nothing was heard"
    those.now += 60
    assert not those.refusals.expect(ANN)
    assert [those.seconds(ANN) for _ in range(2)] == [0, 0]
    assert not those.refusals._noted, "it is forgotten"


def test_who_only_looks_keeps_nobody_from_asking_the_database() -> None:
    those = Remembering()
    those.refusals.note(ANN, 59.2)
    assert those.refusals.known(ANN) == 60
    those.now += MEMORY_SECONDS
    those.refusals.note(BOB, 59.2)

    assert [those.refusals.known(counter) for counter in (ANN, BOB)] == [None, 60]
    assert [those.seconds(ANN) for _ in range(2)] == [0, 59]
    assert those.refusals.known(ANN) == 59, "others are asked to wait for what the one hears"


def test_no_refusal_is_remembered_beyond_its_end() -> None:
    those = Remembering()
    those.refusals.note(ANN, 0.25)
    those.now += 0.125

    assert those.seconds(ANN) == 1
    those.now += 0.125
    assert those.seconds(ANN) == 0


def test_what_was_heard_last_counts_and_what_is_lifted_is_forgotten() -> None:
    those = Remembering()
    those.refusals.note(ANN, 60)
    those.refusals.note(ANN, 120)
    those.refusals.note(BOB, 60)

    assert those.seconds(ANN) == 120
    those.refusals.forget(ANN.digest, b"nobody's")
    assert (those.seconds(ANN), those.seconds(BOB)) == (0, 60)


def test_memory_is_bounded_and_the_oldest_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "MOST_REMEMBERED", 2)
    those = Remembering()
    for counter in (ANN, BOB, ANN, Counter("identifier", b"carol")):
        those.refusals.note(counter, 60)

    assert len(those.refusals._noted) == 2
    assert (those.seconds(ANN), those.seconds(BOB)) == (60, 0)
