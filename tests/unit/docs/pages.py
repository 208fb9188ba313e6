"""The documentation as the tests read it."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "docs" / "reference"
TOP_LEVEL = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")

_CODE = re.compile(r"`([^`]+)`")


def pages() -> list[Path]:
    """Every page a reader may open."""
    rest = [*sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").glob("*.md"))]
    return [ROOT / name for name in TOP_LEVEL] + rest


def command_modules() -> set[str]:
    """Commands that have a module of their own; one that is not registered yet may be documented already."""
    return {file.stem.partition("_")[0] for file in (ROOT / "cli").glob("*.py")}


def without_code_blocks(text: str) -> str:
    """The prose of a page: links and headings in a code block are none."""
    return re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)


def table_rows(text: str) -> Iterator[list[str]]:
    """The cells of every table row, headings and rules left out."""
    for line in text.splitlines():
        if line.startswith("| ") and not line.startswith("| ---"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def code_words(text: str) -> list[str]:
    """What stands between backticks."""
    return _CODE.findall(text)
