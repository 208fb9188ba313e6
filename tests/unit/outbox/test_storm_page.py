"""The storm's page says how what struck was done, and nothing of what did not."""

from collections import Counter
from dataclasses import replace

from tests.integration.outbox.storm.__main__ import METHODS, Outcomes, Plan, page
from tests.integration.outbox.storm.outage import Outcome
from tests.unit.docs.pages import ROOT

PLAN = Plan(kills=0, late=0, outage=10.0, seed=1)


def test_only_what_struck_is_explained() -> None:
    calm = page(PLAN, Outcomes(), 60.0)
    away = page(PLAN, Outcomes(outage=Outcome(answers=Counter({201: 5}), gathered=5)), 60.0)

    assert [text for text in METHODS.values() if text in calm] == []
    assert [name for name, text in METHODS.items() if text in away] == ["outage"]
    assert away.endswith("those that were not done.\n")


def test_the_page_that_is_kept_explains_its_own_rows() -> None:
    kept = (ROOT / "docs" / "storm.md").read_text(encoding="utf-8")
    rows = {"storm": "| kills |", "late": "| ends that came late |", "outage": "| a broker that was away |"}
    for name, row in rows.items():
        assert (METHODS[name] in kept) == (row in kept), name


def test_an_outage_holds_where_commands_were_put_off_and_not_where_one_failed() -> None:
    kept = Outcome(answers=Counter({200: 90}), put_off=10, gathered=90, arrival_rate=9.0, drain_rate=1000.0)

    assert kept.holds
    assert "90 commands done, 10 told to come later, 0 refused" in page(PLAN, Outcomes(outage=kept), 60.0)
    assert not replace(kept, answers=Counter({200: 89, 500: 1})).holds
    assert not replace(kept, lost=1).holds
