"""The page of restores says what the drill does now, and a difference would be on it."""

import re

from tests.restore.__main__ import HEAD, METHOD, page
from tests.restore.drill import Drill
from tests.unit.docs.pages import ROOT


def test_the_page_that_is_kept_found_no_difference() -> None:
    kept = (ROOT / "docs" / "restore.md").read_text(encoding="utf-8")

    assert re.findall(r"\| \*\*(\d+)\*\* \| \*\*(\d+)\*\* \|", kept) == [("0", "0")] * 3
    assert kept.startswith(HEAD)
    assert METHOD in kept


def test_a_difference_is_on_the_page_and_fails_the_drill() -> None:
    drill = Drill("both at once", {"the first step": 1.5}, compared=7, differing=1, wrong=["ann: 404 and not 200"])
    written = page(7, [drill])

    assert not drill.holds
    assert "| both at once | 2 | 7 | **1** | **1** |" in written
    assert "| both at once | the first step | 1.5 |" in written
    assert not Drill("nothing was compared").holds
