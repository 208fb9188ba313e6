"""A reader of a figure finds the command that makes it again."""

import re

import pytest

from benchmarks.catalogue import BENCHMARKS
from benchmarks.reporting.index import BEGIN, END
from tests.unit.docs.pages import ROOT

FOLDER = ROOT / "docs" / "benchmarks"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.name != "README.md")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_readme_and_the_makefile_name_every_benchmark(name: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    [names] = re.findall(r"^BENCHMARKS := (.+)$", makefile, flags=re.MULTILINE)

    assert f"`make bench-{name}`" in (FOLDER / "README.md").read_text(encoding="utf-8")
    assert names.split() == list(BENCHMARKS)


def test_every_page_of_figures_names_the_command_that_makes_it() -> None:
    nameless = [page.name for page in PAGES if f"`make bench-{page.stem}`" not in page.read_text(encoding="utf-8")]

    assert nameless == []


def test_every_page_of_figures_belongs_to_a_benchmark_and_has_its_rounds_beside_it() -> None:
    assert [page.name for page in PAGES if page.stem not in BENCHMARKS or not page.with_suffix(".json").exists()] == []


def test_the_readme_has_a_place_for_results() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")

    assert 0 < text.find(BEGIN) < text.find(END)
