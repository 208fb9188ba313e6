"""Alerts and dashboards ask for what there is, and whoever is woken finds a page that says what to do."""

import re
from pathlib import Path

import pytest
import yaml

from chassis.settings import Topics
from cli.processes.probe import PORTS
from deploy.__main__ import made
from deploy.grafana.dashboards import dashboards
from tests.unit.deploy.every_expression import expressions
from tests.unit.deploy.expressions import OTHERS, TARGET_LABELS, grouped, metrics, selectors
from tests.unit.deploy.files import CHART, DEPLOY, PAGES, alerts, rules, tried_alerts
from tests.unit.docs.pages import REFERENCE, ROOT

RECORDED = {rule["record"] for rule in rules() if "record" in rule}
EXPRESSIONS = expressions()


@pytest.mark.parametrize(("name", "expression"), EXPRESSIONS)
def test_an_expression_asks_for_series_and_labels_that_there_are(name: str, expression: str) -> None:
    asked = list(selectors(expression))
    known = set().union(*(metrics().get(series, set()) for series, _ in asked))

    assert asked
    assert {series for series, _ in asked} - set(metrics()) - OTHERS - RECORDED == set()
    for series, labels in asked:
        assert labels - metrics().get(series, set()) - TARGET_LABELS == set(), series
    assert grouped(expression) - known - TARGET_LABELS == set()


def test_every_rule_that_is_recorded_is_used() -> None:
    used = {series for _, expression in EXPRESSIONS for series, _ in selectors(expression)}

    assert RECORDED - used == set()


def test_the_reference_names_every_metric_and_there_is_every_metric_that_it_names() -> None:
    text = (REFERENCE / "observability.md").read_text(encoding="utf-8")
    table = {name for line in text.splitlines() if line.startswith("| `muster_") for name in _names(line)}

    assert table == {name for name in metrics() if not name.endswith(("_bucket", "_count", "_sum"))} | {
        name.removesuffix("_bucket") for name in metrics() if name.endswith("_bucket")
    }


def _names(row: str) -> list[str]:
    return re.findall(r"`(muster_\w+)`", row.split("|")[1])


def test_each_alert_has_its_page_and_each_page_its_alert() -> None:
    named = {ROOT / alert["annotations"]["runbook"] for alert in alerts()}

    assert named == set(PAGES.glob("*.md")) - {PAGES / "README.md"}
    for alert in alerts():
        page = (ROOT / alert["annotations"]["runbook"]).read_text(encoding="utf-8")
        assert page.startswith(f"# {alert['alert']}: ")
        assert re.findall(r"^## (.+)$", page, flags=re.MULTILINE) == ["Look at", "Do"]


def test_each_alert_says_whom_it_wakes_and_why() -> None:
    for alert in alerts():
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert alert["annotations"].keys() == {"summary", "description", "runbook"}


def test_each_alert_is_seen_to_fire_by_promtool() -> None:
    assert tried_alerts() == {(alert["alert"], alert["labels"]["severity"]) for alert in alerts()}


def test_tombstones_are_at_risk_at_half_of_the_time_that_they_stay() -> None:
    [alert] = [alert for alert in alerts() if alert["alert"] == "MusterTombstonesAtRisk"]

    assert int(alert["expr"].rsplit(">", 1)[1]) == Topics.model_fields["topic_delete_retention_ms"].default / 2 / 1000


def test_a_dashboard_is_red_where_no_relay_leads_as_where_two_do() -> None:
    [panel] = [each for each in dashboards()["pipeline.json"]["panels"] if each["title"] == "Relays that lead"]
    steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]

    def colour(leaders: int) -> str:
        return str([step["color"] for step in steps if step["value"] is None or step["value"] <= leaders][-1])

    assert [colour(leaders) for leaders in (0, 1, 2)] == ["red", "green", "red"]
    assert "by (namespace)" in panel["targets"][0]["expr"]


def test_prometheus_is_told_of_every_process_by_its_inner_port() -> None:
    document = yaml.safe_load((DEPLOY / "prometheus" / "scrape.yaml").read_text(encoding="utf-8"))
    ports = {int(job["static_configs"][0]["targets"][0].rpartition(":")[2]) for job in document["scrape_configs"]}

    assert ports == set(PORTS.values())
    assert {job["job_name"] for job in document["scrape_configs"]} == set(
        yaml.safe_load((CHART / "files" / "processes.yaml").read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize(("path", "text"), made().items(), ids=lambda each: getattr(each, "name", ""))
def test_a_file_that_is_made_from_code_is_what_the_code_makes(path: Path, text: str) -> None:
    assert path.read_text(encoding="utf-8") == text, "run: python -m deploy"
