"""The files of `deploy/` as the tests read them."""

from functools import cache
from typing import Any, Final

import yaml

from deploy.grafana.dashboards import dashboards
from tests.unit.docs.pages import ROOT

DEPLOY: Final = ROOT / "deploy"
CHART: Final = DEPLOY / "helm" / "muster"
PAGES: Final = ROOT / "docs" / "how-to" / "alerts"


@cache
def rules() -> list[dict[str, Any]]:
    """Every rule of Prometheus, those that record and those that alert, in the file's order."""
    document = yaml.load((DEPLOY / "prometheus" / "alerts.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    return [rule for group in document["groups"] for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    """Those that alert."""
    return [rule for rule in rules() if "alert" in rule]


def panel_queries() -> list[tuple[str, str]]:
    """The title and the PromQL of each panel of each dashboard, Grafana's variables filled in."""
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", "5m"))
        for board in dashboards().values()
        for panel in board["panels"]
        for target in panel["targets"]
    ]


def tried_alerts() -> set[tuple[str, str]]:
    """The alerts that a case of promtool expects to fire, each with its severity."""
    document = yaml.load((DEPLOY / "prometheus" / "alerts.test.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
    return {
        (expected["alertname"], fired["exp_labels"]["severity"])
        for case in document["tests"]
        for expected in case.get("alert_rule_test", ())
        for fired in expected["exp_alerts"]
    }
