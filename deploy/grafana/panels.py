"""Grafana's JSON: a dashboard is rows of panels, and a panel a title, a unit and queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

#: Grafana's grid is 24 wide; a panel of this height shows a legend of three lines.
_WIDTH: Final = 24
_HEIGHT: Final = 8
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
#: Version of the model that Grafana 11 and newer read; they raise it themselves.
_SCHEMA: Final = 39


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over time. `queries` are PromQL by legend; `unit` is one of Grafana's.

    From `limit` on there is a red line; with `least` all is red that is below it, or from `limit` on.
    """

    title: str
    unit: str
    queries: dict[str, str]
    about: str = ""
    limit: float | None = None
    least: float | None = None


def dashboard(uid: str, title: str, rows: Sequence[Sequence[Panel]]) -> dict[str, Any]:
    """A whole dashboard; the panels of a row share its width."""
    placed = [
        _panel(panel, x=column * _WIDTH // len(row), y=line * _HEIGHT, width=_WIDTH // len(row))
        for line, row in enumerate(rows)
        for column, panel in enumerate(row)
    ]
    for number, panel in enumerate(placed, 1):
        panel["id"] = number
    return {
        "uid": uid,
        "title": title,
        "tags": ["muster"],
        "schemaVersion": _SCHEMA,
        "version": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_datasource_variable(), _namespace_variable()]},
        "panels": placed,
    }


def _panel(panel: Panel, *, x: int, y: int, width: int) -> dict[str, Any]:
    mode = "area" if panel.least is not None else "line" if panel.limit is not None else "off"
    steps: list[dict[str, Any]] = [{"color": "green" if panel.least is None else "red", "value": None}]
    if panel.least is not None:
        steps.append({"color": "green", "value": panel.least})
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.about,
        "datasource": _DATASOURCE,
        "gridPos": {"x": x, "y": y, "w": width, "h": _HEIGHT},
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "thresholds": {"mode": "absolute", "steps": steps},
                "custom": {"thresholdsStyle": {"mode": mode}},
            },
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + number), "datasource": _DATASOURCE, "expr": query, "legendFormat": legend}
            for number, (legend, query) in enumerate(panel.queries.items())
        ],
    }


def _datasource_variable() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}


def _namespace_variable() -> dict[str, Any]:
    """Which installation; `.*` finds the one that has no namespace too."""
    return {
        "name": "namespace",
        "type": "query",
        "label": "Namespace",
        "datasource": _DATASOURCE,
        "query": "label_values(up, namespace)",
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }
