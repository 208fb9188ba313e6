"""Writes a report: NAME.json, NAME.md and its pictures, and its line in the folder's README."""

import json
from pathlib import Path

from benchmarks.reporting.document import Report, as_json
from benchmarks.reporting.index import renew
from benchmarks.reporting.page import page
from benchmarks.reporting.plots import draw


def write(report: Report, folder: Path) -> Path:
    """Replace what an earlier run wrote there; return the page's file."""
    folder.mkdir(parents=True, exist_ok=True)
    name = report.benchmark.name
    for old in [*folder.glob(f"{name}.svg"), *folder.glob(f"{name}-*.svg")]:
        old.unlink()
    document = json.dumps(as_json(report), indent=2, ensure_ascii=False)
    (folder / f"{name}.json").write_text(document + "\n", encoding="utf-8")
    pictures = draw(report.result, folder, name)
    file = folder / f"{name}.md"
    file.write_text(page(report, pictures), encoding="utf-8")
    renew(folder)
    return file
