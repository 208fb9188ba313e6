"""The page of failures says what the run does now, and that its run lost nothing and refused no query."""

import re

from tests.failover.__main__ import AWAY_SECONDS, HEAD, METHOD, Outcome, page
from tests.failover.probes import Stretch
from tests.unit.docs.pages import ROOT


def test_the_page_that_is_kept_lost_nothing_and_refused_no_query() -> None:
    kept = (ROOT / "docs" / "failover.md").read_text(encoding="utf-8")

    assert re.findall(r"\| (?:Acknowl.*|`muster audit`|Queries failed) \| \*\*(\d+)\*\* of", kept) == ["0"] * 3
    # How quickly a server starts again is the machine's, so the verdict may be either.
    assert re.search(r"\| Longest without commands \| \*\*[\d.]+ s\*\*; at most 10: (holds|missed) \|", kept)
    assert kept.startswith(HEAD)
    assert METHOD in kept


def test_a_failure_is_on_the_page_and_fails_the_run() -> None:
    outcome = Outcome(
        {"broker killed": Stretch(commands=9, failed=1, longest=11.5)},
        {"broker killed": Stretch(queries=7, failed=2, longest=0.5)},
        {"broker killed": 12.0},
        acknowledged=8, lost=1, compared=8, differing=3,
    )  # fmt: skip
    written = page(outcome)

    assert not outcome.holds
    assert "| broker killed | 9 | 1 | 11.5 | 7 | 2 | 0.5 | 12.0 |" in written
    assert "| Acknowledged registrations lost | **1** of 8 |" in written
    assert "| `muster audit` | **3** of 8 users differ |" in written
    assert "| Longest without commands | **11.5 s**; at most 10: missed |" in written
    assert "| Queries failed | **2** of 7; longest without 0.5 s |" in written


def test_the_bar_is_commands_away_for_ten_seconds_and_no_query_that_failed() -> None:
    served = {"x": Stretch(longest=AWAY_SECONDS)}

    assert Outcome(served, {"x": Stretch()}, compared=1).holds
    assert not Outcome({"x": Stretch(longest=AWAY_SECONDS + 0.1)}, {"x": Stretch()}, compared=1).holds
    assert not Outcome(served, {"x": Stretch(failed=1)}, compared=1).holds
    assert not Outcome(served, {"x": Stretch()}, compared=1, lost=1).holds
    assert not Outcome(compared=1).holds
