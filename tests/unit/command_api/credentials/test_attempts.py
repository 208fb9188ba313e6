"""What the rule promises, whatever happens in whichever order: guessing is slow, and nobody is locked out for good."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_api.credentials.attempts import (
    AttemptLimits,
    identifier_key,
    of_device,
    of_identifier,
)
from command_api.credentials.keys import CredentialKeys
from tests.unit.command_api.credentials.throttle_model import ModelCounter

BEGIN = datetime(2026, 11, 29, tzinfo=UTC)
LIMITS = AttemptLimits()
KEYS = CredentialKeys.derive(["a secret of thirty-two characters"])
#: Pauses of guessers, from none to just beyond every number of the rule.
PAUSES = st.lists(st.sampled_from([0.0, 0.001, 1, 30, 60, 61, 121, 241, 481, 901, 1800, 3601]), max_size=120)
NIST_LIMIT = 100


@given(PAUSES)
def test_no_sequence_lets_more_than_a_hundred_guesses_through_within_an_hour(pauses: list[float]) -> None:
    counter, now, let_in = ModelCounter(LIMITS), BEGIN, []
    for pause in pauses:
        now += timedelta(seconds=pause)
        if counter.charge(now):
            let_in.append(now)

    for first in let_in:
        assert len([at for at in let_in if first <= at < first + timedelta(hours=1)]) <= NIST_LIMIT


@given(PAUSES, st.lists(st.integers(0, 4), min_size=120, max_size=120))
def test_nor_does_one_in_which_the_user_gets_other_names(pauses: list[float], names: list[int]) -> None:
    counters, has, now, let_in = [ModelCounter(LIMITS) for _ in range(5)], 0, BEGIN, []
    for pause, name in zip(pauses, names, strict=False):
        now += timedelta(seconds=pause)
        if name != has:
            counters[name].inherit(counters[has])
            has = name
        if counters[has].charge(now):
            let_in.append(now)

    for first in let_in:
        assert len([at for at in let_in if first <= at < first + timedelta(hours=1)]) <= NIST_LIMIT


def test_whoever_guesses_as_soon_as_may_be_gets_few_guesses_a_day() -> None:
    counter, now, let_in = ModelCounter(LIMITS), BEGIN, 0
    while now < BEGIN + timedelta(days=1):
        let_in += counter.charge(now)
        now = counter.refused_until or now

    assert let_in <= 24 * 20


@given(PAUSES, st.lists(st.booleans(), min_size=120, max_size=120))
def test_nothing_locks_for_ever(pauses: list[float], taken_back: list[bool]) -> None:
    counter, now = ModelCounter(LIMITS), BEGIN
    for pause, back in zip(pauses, taken_back, strict=False):
        now += timedelta(seconds=pause)
        if counter.charge(now) and back:
            counter.take_back(now)

    assert counter.charge(now + LIMITS.longest_refusal)


def test_refusals_double_to_the_longest() -> None:
    assert [step / timedelta(minutes=1) for step in LIMITS.refusals] == [1, 2, 4, 8, 15]
    odd = AttemptLimits(first_refusal=timedelta(minutes=2), longest_refusal=timedelta(minutes=1))
    assert odd.refusals == [timedelta(minutes=1)]


@pytest.mark.parametrize(
    ("identifier", "key"),
    [("Ann@Example.COM", "ann@example.com"), ("ann@münchen.de", "ann@xn--mnchen-3ya.de"), ("ÅNN", "ånn")],
)
def test_an_identifier_is_an_address_or_a_username_by_its_key(identifier: str, key: str) -> None:
    assert identifier_key(identifier) == key


def test_counters_differ_by_kind_and_by_secret() -> None:
    other = CredentialKeys.derive(["another secret of thirty-two chars"])
    made = [of_identifier(KEYS, "ab"), of_device(KEYS, b"\xab"), of_identifier(other, "ab")]

    assert len({counter.digest for counter in made}) == 3
