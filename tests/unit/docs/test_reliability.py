"""The page of the last run of chaos says what the checker checks now, and how to run it again."""

import re

from tests.chaos.bugs import ALL
from tests.chaos.checker import INVARIANTS
from tests.chaos.history import History
from tests.chaos.planted import PLANTED
from tests.chaos.report import HEAD, Circumstances, page
from tests.chaos.run import Outcome, Plan, Strike
from tests.unit.docs.pages import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_the_page_has_every_promise_in_the_checkers_words() -> None:
    rows = dict(re.findall(r"^\| ([a-z-]+) \| (.+) \| \d+ \|$", PAGE, flags=re.MULTILINE))

    assert rows == {name: invariant.__doc__ for name, invariant in INVARIANTS.items()}
    assert HEAD.strip() in PAGE
    assert f"{len(PLANTED)} planted bugs" in PAGE
    assert f"with {len(ALL)} that `make chaos-short` plants" in PAGE


def test_a_run_that_spared_a_fault_says_so() -> None:
    outcome = Outcome(History(), strikes=[Strike(("kill relay",), 0, 1.0)], known=("kill relay", "kill kafka"))
    text = page(outcome, Plan(), Circumstances("0" * 12, "2026-11-30", clocks=True))

    assert "**1 of 2 faults never struck:** kill kafka." in text


def test_the_page_says_how_to_make_it_again() -> None:
    assert re.search(r"`make chaos SECONDS=\d+ SEED=\d+`", PAGE)
    assert re.search(r"\| Muster's last change, date \| [0-9a-f]{12}, \d{4}-\d\d-\d\d \|", PAGE)
