"""The README of the results is made from what is beside it."""

import json
from pathlib import Path

from benchmarks.reporting.index import BEGIN, END, renew

BARS = [
    {"name": "drain / send()", "verdict": "holds"},
    {"name": "trickle", "verdict": "missed"},
    {"name": "take-over", "verdict": "noisy"},
]
RELAY = {
    "benchmark": "relay",
    "title": "Relay",
    "command": "make bench-relay",
    "started_at": "2026-11-22T12:00:00Z",
    "bars": BARS,
}


def test_each_page_gets_a_line_and_the_rest_stays(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}yesterday\n{END}\nafter\n", encoding="utf-8")
    (tmp_path / "relay.json").write_text(json.dumps(RELAY), encoding="utf-8")

    renew(tmp_path)
    renew(tmp_path)

    text = readme.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{BEGIN}")
    assert text.endswith(f"{END}\nafter\n")
    assert text.count("| [Relay](relay.md) | `make bench-relay` | 2026-11-22 | 1 | trickle | 1 |") == 1
    assert "yesterday" not in text


def test_a_folder_without_a_readme_is_left_alone(tmp_path: Path) -> None:
    renew(tmp_path)

    assert list(tmp_path.iterdir()) == []
