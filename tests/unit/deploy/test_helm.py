"""What `helm lint` and `helm template` find, by Helm as a library: the wheel helm-python-sdk, which has Helm 4 in it.

With `RENDER=1` what is rendered is kept.
"""

import copy
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.deploy.files import CHART
from tests.unit.deploy.rendered import DEFAULTS, NEEDED, PRODUCTION, VALUES, objects, ordered, write

if sys.platform == "linux" and platform.machine() != "x86_64":
    pytest.skip("there is no wheel of Helm for this machine, so NO CHART WAS RENDERED", allow_module_level=True)

import helm_python as helm

#: Beyond Helm's advice ("icon is recommended").
WARNING = 2
PRODUCTION_VALUES: dict[str, Any] = yaml.safe_load(VALUES.read_text(encoding="utf-8"))


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects that Helm makes of the chart."""
    with helm.Chart.load(CHART) as chart:
        manifests = chart.render(values, name="muster", namespace="prod")
    texts = (text for name, text in manifests.items() if name.endswith(".yaml"))
    return ordered(each for text in texts for each in yaml.load_all(text, yaml.CSafeLoader) if each)


def test_helm_finds_nothing_wrong() -> None:
    report = helm.lint(CHART, PRODUCTION_VALUES, strict=True)

    assert report["total_charts_linted"] == 1
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] >= WARNING] == []


def test_helm_finds_what_is_wrong(tmp_path: Path) -> None:
    chart = Path(shutil.copytree(CHART, tmp_path / "muster"))
    (chart / "templates" / "broken.yaml").write_text("{{ unknown }}", encoding="utf-8")

    report = helm.lint(chart, PRODUCTION_VALUES, strict=True)

    assert "unknown" in str(report["messages"])
    assert report["errors"]


@pytest.mark.parametrize(
    ("file", "values"),
    [(PRODUCTION, PRODUCTION_VALUES), (DEFAULTS, {"settings": NEEDED})],
    ids=["production", "defaults"],
)
def test_what_is_kept_is_what_helm_renders(file: Path, values: dict[str, Any]) -> None:
    found = rendered(values)
    if os.environ.get("RENDER"):
        write(file, found)
        objects.cache_clear()

    assert objects(file) == found


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("settings.POSTGRES_SERVR", "x", "no process reads the setting POSTGRES_SERVR"),
        ("processes.relay.settings.WORKERS", 2, "relay does not read WORKERS as a setting"),
        ("processes.query-api.secrets.IDEMPOTENCY_SECRET.name", "x", "query-api reads no secret IDEMPOTENCY_SECRET"),
        ("processes.relais.replicas", 2, "there is no process relais, only"),
        ("settings.AUTH_ISSUER", None, "command-api needs AUTH_ISSUER"),
        ("processes.console.settings.KAFKA_SASL_USERNAME", None, "console needs KAFKA_SASL_USERNAME"),
        ("processes.relay.secrets", {}, "relay needs KAFKA_SASL_PASSWORD"),
        ("processes.console.settings.CONSOLE_OIDC_CLIENT_ID", None, "console needs CONSOLE_OIDC_CLIENT_ID"),
        ("processes.console.settings.PUBLIC_CONSOLE_URL", None, "console needs PUBLIC_CONSOLE_URL"),
        ("processes.console.replicas", 2, "console runs once"),
        ("processes.console.autoscaling.enabled", True, "console runs once"),
    ],
)
def test_a_mistake_is_one_clear_sentence(path: str, value: object, said: str) -> None:
    with pytest.raises(helm.HelmError) as refused:
        rendered(production({path: value}))

    assert said in str(refused.value)


def test_a_listener_that_answers_to_some_names_answers_to_its_services_too() -> None:
    def told(**changes: object) -> list[str]:
        without = {"settings.ALLOWED_HOSTS": None, "processes.console.settings.ALLOWED_HOSTS": None}
        found = rendered(production({**without, **changes}))
        pods = [each["spec"]["template"]["spec"] for each in found if each["kind"] == "Deployment"]
        variables = [each for pod in pods for each in pod["containers"][0].get("env", [])]
        return [each["value"] for each in variables if each["name"] == "ALLOWED_HOSTS"]

    service = "muster-query-api.prod"
    assert told() == [], "none means every name"
    assert told(**{"processes.query-api.settings.ALLOWED_HOSTS": "a.example"}) == [
        f"a.example,muster-query-api,{service},{service}.svc,{service}.svc.cluster.local"
    ]


def test_pods_may_send_traces_where_they_are_told_a_collector() -> None:
    def open_to(**changes: object) -> set[int]:
        policies = [each for each in rendered(production(changes)) if each["kind"] == "NetworkPolicy"]
        rules = [rule for each in policies for rule in each["spec"]["egress"]]
        return {port["port"] for rule in rules for port in rule.get("ports", [])}

    assert 4318 not in open_to()
    assert 4318 in open_to(**{"settings.OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector.monitoring:4318"})


def alerts(**changes: object) -> dict[str, dict[str, Any]]:
    """The alerts that are rendered, by name; of two severities the second."""
    [rule] = [each for each in rendered(production(changes)) if each["kind"] == "PrometheusRule"]
    return {each["alert"]: each for group in rule["spec"]["groups"] for each in group["rules"] if "alert" in each}


@pytest.mark.parametrize(("retention", "seconds"), [(None, 302400), (86_400_000, 43200), ("172800000", 86400)])
def test_tombstones_are_at_risk_at_half_of_the_time_that_these_values_give_them(
    retention: object, seconds: int
) -> None:
    expression = alerts(**{"settings.TOPIC_DELETE_RETENTION_MS": retention})["MusterTombstonesAtRisk"]["expr"]

    assert expression.endswith(f"> {seconds}")


def test_alerts_lead_to_their_pages_where_the_values_say_where_these_are_read() -> None:
    base, page = "https://git.example.com/muster/blob/main", "docs/how-to/alerts/process-down.md"

    def linked(where: str) -> dict[str, str]:
        found = alerts(**{"monitoring.repository": where})["MusterProcessDown"]["annotations"]
        return {name: value for name, value in found.items() if name.startswith("runbook")}

    assert linked(base) == linked(f"{base}/") == {"runbook_url": f"{base}/{page}"}
    assert linked("") == {"runbook": page}


def production(changes: Mapping[str, object]) -> dict[str, Any]:
    """Production's values with these, by their paths, as `--set` would set them."""
    values = copy.deepcopy(PRODUCTION_VALUES)
    for path, value in changes.items():
        *folders, name = path.split(".")
        place = values
        for folder in folders:
            place = place.setdefault(folder, {})
        place[name] = value
    return values
