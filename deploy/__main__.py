"""`python -m deploy`: writes the files of this folder that are made from code."""

from __future__ import annotations

import json
from pathlib import Path

from deploy import chart
from deploy.grafana import dashboards


def made() -> dict[Path, str]:
    """Every such file, and what belongs in it."""
    contents = {chart.FILE: chart.variables()}
    contents |= {dashboards.FOLDER / name: board for name, board in dashboards.dashboards().items()}
    return {path: json.dumps(content, indent=1, ensure_ascii=False) + "\n" for path, content in contents.items()}


if __name__ == "__main__":
    for path, text in made().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
