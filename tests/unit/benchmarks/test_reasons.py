"""A reason beside a missed bar has figures of its own run."""

import math

import pytest

from benchmarks.commands.run import hashing_reason
from benchmarks.query.run import apart_reason
from benchmarks.rivals.lists import asking_reason
from benchmarks.rivals.relays import cpu_reason, drain_reason
from benchmarks.running.rounds import Rounds, Sample


def rounds(**values: float) -> Rounds:
    return Rounds("/s", {name.replace("_", " "): [Sample(value)] for name, value in values.items()})


def test_a_registration_with_a_hash_is_that_of_both() -> None:
    reason = hashing_reason(rounds(bare_hash=40, register=2500, register_with_hash=38))

    assert reason == "a hash alone takes 25 ms and a registration without one 0.4 ms; together they take 26.3 ms"


def test_pages_of_their_own_are_beside_the_one_that_is_shared() -> None:
    reason = apart_reason(rounds(near_pages=4000, list_50=8000))

    assert "takes 250 µs" in reason
    assert "it takes 125 µs" in reason


@pytest.mark.parametrize(("theirs", "said"), [(26_000.0, "26,000"), (math.nan, "none")])
def test_a_drain_is_bounded_by_the_core_that_it_has(theirs: float, said: str) -> None:
    drained = Rounds("events/s", {"ours": [Sample(80_000, {"cpu": 0.008})], "theirs": [Sample(theirs)]})

    reason = drain_reason(drained, "ours", "theirs")

    assert "takes 8 µs" in reason
    assert "125,000 a second are the most" in reason
    assert reason.startswith(f"6 times Kafka Connect's {said} are")


def test_a_relay_is_beside_a_tenth_of_its_rival() -> None:
    drained = Rounds("events/s", {"ours": [Sample(1, {"cpu": 0.005})], "theirs": [Sample(1, {"cpu": 0.04})]})

    reason = cpu_reason(drained, "ours", "theirs")

    assert "40 µs is 4;" in reason
    assert "takes 5 of ours" in reason


def test_an_answer_has_its_share_of_the_cores() -> None:
    asked = Rounds("requests/s", {"list": [Sample(6_000, {"cpu": 0.00015})], "Keycloak, list": [Sample(500)]})

    reason = asking_reason(asked, "list", 20, cores=2)

    assert reason.startswith("20 times Keycloak's 500 requests a second leave 200 µs of the 2 cores for each")
    assert "our processes take 150" in reason
