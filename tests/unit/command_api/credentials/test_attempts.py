"""What the rule promises, whatever happens in whichever order: guessing is slow, and nobody is locked out for good."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from command_api.credentials.attempts.rule import (
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
FEW = AttemptLimits(failures=3, most=9)
#: Pauses of guessers, from none to just beyond every number of the rule.
PAUSES = [0.0, 0.001, 1, 30, 60, 61, 121, 241, 481, 901, 1800, 3601]
NIST_LIMIT = 100


def most_within_an_hour(let_in: list[datetime]) -> int:
    hour = timedelta(hours=1)
    return max((len([at for at in let_in if first <= at < first + hour]) for first in let_in), default=0)


class Account:
    """The counters that stand before one password, for whoever has no device token."""

    def __init__(self, limits: AttemptLimits) -> None:
        self.counters = {name: ModelCounter(limits) for name in ("address", "username", "own token")}
        self.let_in: list[datetime] = []

    def guess(self, name: str, now: datetime) -> bool:
        let_in = self.counters[name].charge(now)
        if let_in:
            self.let_in.append(now)
        return let_in

    def log_in(self, name: str, now: datetime) -> None:
        """The owner, without a device token either."""
        if self.counters[name].charge(now):
            self.counters[name].succeed(now)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["guess", "guess", "guess", "log_in"]),
        st.sampled_from(["address", "username"]),
        st.sampled_from([0.0] * 6 + PAUSES),
    ),
    max_size=80,
)


@given(STEPS)
def test_no_sequence_of_guesses_and_of_the_owners_log_ins_lets_more_through_than_the_most(
    steps: list[tuple[str, str, float]],
) -> None:
    account, now = Account(FEW), BEGIN
    for what, name, pause in steps:
        now += timedelta(seconds=pause, microseconds=1)
        getattr(account, what)(name, now)

    assert most_within_an_hour(account.let_in) <= 2 * (FEW.most + FEW.window // FEW.longest_refusal)


@pytest.mark.parametrize("every", [1, 5, 9])
def test_whoever_guesses_as_soon_as_may_be_has_fewer_than_a_hundred_an_hour_however_often_the_owner_logs_in(
    every: int,
) -> None:
    """Guesses by address, by username and with the user's own access token; the owner logs in after each so many."""
    account, now, rounds = Account(LIMITS), BEGIN, 0
    while now < BEGIN + timedelta(hours=6):
        if any([account.guess(name, now) for name in account.counters]):  # noqa: C419 - each guesses
            rounds += 1
        else:
            now = min(counter.refused_until or now for counter in account.counters.values())
        now += timedelta(microseconds=1)
        if rounds % every == 0:
            for name in ("address", "username"):
                account.log_in(name, now)

    assert 2 * LIMITS.most < most_within_an_hour(account.let_in) <= NIST_LIMIT


@given(st.lists(st.sampled_from(PAUSES), max_size=120), st.lists(st.integers(0, 4), min_size=120, max_size=120))
def test_nor_does_one_in_which_the_user_gets_other_names(pauses: list[float], names: list[int]) -> None:
    counters, has, now, let_in = [ModelCounter(LIMITS) for _ in range(5)], 0, BEGIN, []
    for pause, name in zip(pauses, names, strict=False):
        now += timedelta(seconds=pause)
        if name != has:
            counters[name].inherit(counters[has])
            has = name
        if counters[has].charge(now):
            let_in.append(now)

    assert most_within_an_hour(let_in) <= NIST_LIMIT


def test_whoever_guesses_as_soon_as_may_be_gets_few_guesses_a_day() -> None:
    counter, now, let_in = ModelCounter(LIMITS), BEGIN, 0
    while now < BEGIN + timedelta(days=1):
        let_in += counter.charge(now)
        now = counter.refused_until or now

    assert let_in <= 24 * 20


@given(STEPS, st.lists(st.booleans(), min_size=80, max_size=80))
def test_nothing_locks_for_ever(steps: list[tuple[str, str, float]], taken_back: list[bool]) -> None:
    account, now = Account(FEW), BEGIN
    for (what, name, pause), back in zip(steps, taken_back, strict=False):
        now += timedelta(seconds=pause, microseconds=1)
        getattr(account, what)(name, now)
        if back:
            account.counters[name].take_back(now)

    for counter in account.counters.values():
        assert counter.charge(now + FEW.longest_refusal)


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
