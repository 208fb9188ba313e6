"""An example can be taken in at once, and names the page that explains it."""

import ast
import re
from pathlib import Path

import pytest

from tests.unit.docs.pages import ROOT

EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.py") if path.name != "__init__.py")
#: The pages of a login have more in them than a subscriber.
LINES = {"login_app.py": 152}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short_and_has_its_page(example: Path) -> None:
    text = example.read_text(encoding="utf-8")
    page = re.search(r"See (docs/how-to/[a-z-]+\.md)\.", ast.get_docstring(ast.parse(text)) or "")

    assert len(text.splitlines()) <= LINES.get(example.name, 100)
    assert page, "its docstring says which page explains it"
    assert f"examples/{example.name}" in (ROOT / page[1]).read_text(encoding="utf-8")
