"""A reader who follows a link of the documentation, or looks for a file that it names, finds it."""

import json
import re
from pathlib import Path

import pytest

from cli.main import COMMANDS
from tests.unit.docs.pages import ROOT, command_modules, pages, without_code_blocks

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
#: What looks like a file of ours: a path that begins with a folder of the repository, or a document at its top.
_PACKAGES = "chassis|cli|command_api|event_api|events|local_stack|outbox|projectors|query_api|read_model"
_FOLDERS = f"{_PACKAGES}|benchmarks|containers|deploy|docs|requirements|tests"
_NAMED = re.compile(rf"`((?:{_FOLDERS})/[\w./-]+|[A-Z]+\.md)`")
#: Where a path is a pattern or something the reader is to make, it has one of these in it.
_PLACEHOLDERS = re.compile(r"NNNN|NAME|\*|…")


def _anchor(heading: str) -> str:
    """The fragment that a heading gets: lower case, punctuation gone, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _anchors(page: Path) -> set[str]:
    return {_anchor(heading) for heading in _HEADING.findall(without_code_blocks(page.read_text(encoding="utf-8")))}


def _missing(page: Path, link: str) -> bool:
    path, _, fragment = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return True
    return bool(fragment) and target.suffix == ".md" and fragment not in _anchors(target)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = _LINK.findall(without_code_blocks(page.read_text(encoding="utf-8")))

    assert [link for link in links if not re.match(r"[a-z]+:", link) and _missing(page, link)] == []


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_is_named_is_there(page: Path) -> None:
    named = _NAMED.findall(page.read_text(encoding="utf-8"))

    assert [name for name in named if not _PLACEHOLDERS.search(name) and not (ROOT / name).exists()] == []


def _linked(index: Path) -> set[Path]:
    """The pages that an index leads to; a README below it is an index of its own folder."""
    links = [link for link in _LINK.findall(index.read_text(encoding="utf-8")) if not re.match(r"[a-z]+:", link)]
    pages = {(index.parent / link.partition("#")[0]).resolve() for link in links}
    below = [page for page in pages if page.name == "README.md" and index.parent in page.parent.parents]
    return pages.union(*(_linked(page) for page in below))


def test_every_page_below_docs_is_reached_from_its_index() -> None:
    index = ROOT / "docs" / "README.md"

    assert [page for page in sorted((ROOT / "docs").rglob("*.md")) if page not in _linked(index) | {index}] == []


def test_every_decision_that_the_code_refers_to_is_written() -> None:
    files = [file for folder in _FOLDERS.split("|") for file in (ROOT / folder).rglob("*.py")]
    numbers = {
        number
        for file in [*files, ROOT / "pyproject.toml"]
        for number in re.findall(r"docs/decisions/(\d{4})", file.read_text(encoding="utf-8"))
    }
    written = {page.name[:4] for page in (ROOT / "docs" / "decisions").glob("*.md")}

    assert numbers <= written
    assert numbers, "the code refers to some"


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_code_block_of_python_or_json_can_be_read(page: Path) -> None:
    text = page.read_text(encoding="utf-8")

    for language, code in re.findall(r"^```(python|json)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE):
        if language == "python":
            compile(code, str(page), "exec")
        else:
            json.loads(code)


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_muster_command_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`|/)muster ([a-z]+)", text, flags=re.MULTILINE))

    assert named - set(COMMANDS) <= command_modules()


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    # `bench-%:` is a family, of which pages name members.
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(?:\S+: )?([a-z]+)(?:-%)?:", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE))

    assert named - targets == set()
