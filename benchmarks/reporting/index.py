"""The table of results in the README of a folder of results: one line a page, made from the JSON files beside it."""

import json
from pathlib import Path
from typing import Any, Final

from benchmarks.catalogue import BENCHMARKS

BEGIN: Final = "<!-- results: written by make bench -->\n"
END: Final = "<!-- end of results -->"
_HEAD: Final = (
    "| Page | Made by | On | Bars that hold | Missed | Not claimed |\n| --- | --- | --- | --- | --- | --- |\n"
)


def renew(folder: Path) -> None:
    """Replace the table between its marks; leave a folder without README, or a README without marks, alone."""
    readme = folder / "README.md"
    if not readme.exists():
        return
    text = readme.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        return
    files = [folder / f"{name}.json" for name in BENCHMARKS]
    lines = [_line(json.loads(file.read_text(encoding="utf-8"))) for file in files if file.exists()]
    before, _, rest = text.partition(BEGIN)
    readme.write_text(f"{before}{BEGIN}{_HEAD}{''.join(lines)}{END}{rest.partition(END)[2]}", encoding="utf-8")


def _line(document: dict[str, Any]) -> str:
    bars: dict[str, list[str]] = {"holds": [], "missed": []}
    for bar in document["bars"]:
        bars.setdefault(bar["verdict"], []).append(bar["name"])
    unclaimed = len(document["bars"]) - len(bars["holds"]) - len(bars["missed"])
    cells = (
        f"[{document['title']}]({document['benchmark']}.md)",
        f"`{document['command']}`",
        document["started_at"][:10],
        str(len(bars["holds"])),
        "; ".join(bars["missed"]) or "none",
        str(unclaimed or "none"),
    )
    return "| " + " | ".join(cells) + " |\n"
