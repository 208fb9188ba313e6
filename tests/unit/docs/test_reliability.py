"""The page of the last run of chaos says what the checker checks now, and how to run it again."""

import re

from tests.chaos.bugs import BUGS
from tests.chaos.checker import INVARIANTS
from tests.chaos.planted import PLANTED
from tests.chaos.report import HEAD
from tests.unit.docs.pages import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_the_page_has_every_promise_in_the_checkers_words() -> None:
    rows = dict(re.findall(r"^\| ([a-z-]+) \| (.+) \| \d+ \|$", PAGE, flags=re.MULTILINE))

    assert rows == {name: invariant.__doc__ for name, invariant in INVARIANTS.items()}
    assert HEAD.strip() in PAGE
    assert f"{len(PLANTED)} planted bugs" in PAGE
    assert f"with {len(BUGS)} that `make chaos-short` plants" in PAGE


def test_the_page_says_how_to_make_it_again() -> None:
    assert re.search(r"`make chaos SECONDS=\d+ SEED=\d+`", PAGE)
    assert re.search(r"\| Muster's last change, date \| [0-9a-f]{12}, \d{4}-\d\d-\d\d \|", PAGE)
