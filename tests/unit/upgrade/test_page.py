"""The page of an upgrade says what the run does now, and that the bar was met by the run that it tells of."""

import re

from tests.unit.docs.pages import ROOT
from tests.upgrade.clients import Tally
from tests.upgrade.report import HEAD, METHOD, Circumstances, page

#: Of these none may fail.
BAR = 20_000


def test_the_page_that_is_kept_met_the_bar() -> None:
    kept = (ROOT / "docs" / "upgrade.md").read_text(encoding="utf-8")

    [(failed, requests)] = re.findall(r"\| Requests failed \| \*\*([\d,]+)\*\* of ([\d,]+) \|", kept)
    assert failed == "0"
    assert int(requests.replace(",", "")) >= BAR
    assert re.findall(r"\*\*(\d+)\*\* of [\d,]+ users differ", kept) == ["0", "0"]
    assert kept.startswith(HEAD)
    assert METHOD in kept


def test_a_failure_is_on_the_page() -> None:
    tallies = {"calm": Tally(commands=3, queries=2), "rolling": Tally(commands=1, failed=1, moved=1, slowest=2.5)}
    told = Circumstances("a" * 40, "b" * 40, "2026-11-30", 6, 60.0)
    written = page(tallies, {"the newer": (7, 1)}, {"in the end": "**2** of 9 missed"}, ["users"], told)

    assert "| Requests failed | **1** of 6 |" in written
    assert "| `muster audit` of the newer | **1** of 7 users differ |" in written
    assert "| rolling | 1 | 0 | 1 | 1 | 2.5 |" in written
    assert "| Events on one stream, in the end | **2** of 9 missed |" in written
    assert "another shape of `users`" in written
