"""Plans follow from the figures that are published, and the page shows them as they are."""

import dataclasses

import pytest

from benchmarks.scale import measured
from benchmarks.scale.__main__ import PAGE, page
from benchmarks.scale.outage import simulate
from benchmarks.scale.plans import LOAD, MOST_CORES, PLANS, Plan, needs, shards
from tests.unit.docs.pages import ROOT


def test_the_page_shows_what_the_code_reckons() -> None:
    text = PAGE.read_text(encoding="utf-8")

    assert page(text) == text, "run: python -m benchmarks.scale --write"


def test_a_rate_is_the_one_of_its_page() -> None:
    shown = f"| relay | **{measured.RELAYED:,.0f}** |"

    assert shown in (ROOT / "docs" / "benchmarks" / "relay.md").read_text(encoding="utf-8")


def test_there_is_another_command_database_where_one_relay_is_not_enough() -> None:
    most = int(measured.RELAYED * LOAD)

    # A database of 32 cores commits more than a relay publishes.
    assert [shards(Plan(1, rate, 1)) for rate in (1, most, most + 1, 3 * most)] == [1, 1, 2, 3]


def test_there_is_another_installation_where_one_query_primary_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    applied = measured.RELAYED / MOST_CORES / 2
    monkeypatch.setattr(measured, "APPLIED", applied)
    most = int(applied * MOST_CORES * LOAD)

    assert [shards(Plan(1, rate, 1)) for rate in (1, most, most + 1, 3 * most)] == [1, 1, 2, 3]


def test_what_is_needed_grows_with_what_is_asked_for() -> None:
    small, _, large = map(needs, PLANS)

    for field in dataclasses.fields(small):
        assert getattr(small, field.name) <= getattr(large, field.name)


def test_each_installation_rebuilds_its_own_users() -> None:
    one, two = (Plan(10**6, int(shared * measured.RELAYED * LOAD), 1) for shared in (1, 2))

    assert (shards(one), shards(two)) == (1, 2)
    assert needs(one).rebuild_minutes == 2 * needs(two).rebuild_minutes == 10**6 / measured.REBUILT / 60


def test_a_backlog_is_gone_after_what_the_relay_has_to_spare() -> None:
    outage = simulate(Plan(10**6, 10_000, 1))

    assert outage.backlog == pytest.approx(10_000 * 600, rel=0.01)
    assert outage.published_after == pytest.approx(10_000 * 600 / (measured.RELAYED - 10_000), rel=0.05)
    assert outage.visible_after >= outage.published_after


def test_a_plan_that_never_catches_up_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "RELAYED", 100.0)
    one = dataclasses.replace(needs(PLANS[0]), command_shards=1)
    monkeypatch.setattr("benchmarks.scale.outage.needs", lambda _: one)

    with pytest.raises(ValueError, match="more than relay and projectors do"):
        simulate(Plan(1, 200, 1))
