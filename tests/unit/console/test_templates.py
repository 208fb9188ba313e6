"""What holds for every template."""

import re
from pathlib import Path

import console.pages

TEMPLATES = Path(console.pages.__file__).parent / "templates"


def test_what_scrolls_can_be_reached_by_keyboard_and_has_a_name() -> None:
    opened = [
        tag for each in TEMPLATES.glob("*.html") for tag in re.findall(r'<div class="wide"[^>]*>', each.read_text())
    ]

    assert opened
    assert [tag for tag in opened if not re.search(r'tabindex="0" role="region" aria-label(ledby)?="[^"]+"', tag)] == []
