"""What Helm itself says of the chart: `make test-deploy`."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.deploy.files import CHART
from tests.unit.deploy.rendered import DEFAULTS, NEEDED, PRODUCTION, VALUES, objects, ordered, write

HELM = Path(os.environ["DEPLOY_TOOLS"]) / "helm"


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it."""
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, check=False)


def template(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Render the chart."""
    return helm("template", "muster", CHART, "--namespace", "prod", *arguments)


def rendered(*arguments: str | Path) -> list[dict[str, Any]]:
    """The objects that are rendered."""
    answer = template(*arguments)
    assert answer.returncode == 0, answer.stderr
    return ordered(each for each in yaml.safe_load_all(answer.stdout) if each)


def test_helm_finds_nothing_wrong() -> None:
    answer = helm("lint", "--strict", CHART, "--values", VALUES)

    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize(
    ("file", "options"),
    [
        (PRODUCTION, ("--values", VALUES)),
        (DEFAULTS, tuple(f"--set=settings.{name}={value}" for name, value in NEEDED.items())),
    ],
)
def test_what_is_kept_is_what_helm_renders(file: Path, options: tuple[str | Path, ...]) -> None:
    found = rendered(*options)
    if os.environ.get("RENDER"):
        write(file, found)

    assert objects(file) == found


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("settings.POSTGRES_SERVR=x", "no process reads the setting POSTGRES_SERVR"),
        ("processes.relay.settings.WORKERS=2", "relay does not read WORKERS as a setting"),
        ("processes.query-api.secrets.IDEMPOTENCY_SECRET.name=x", "query-api reads no secret IDEMPOTENCY_SECRET"),
        ("processes.relais.replicas=2", "there is no process relais, only"),
        ("settings.AUTH_ISSUER=null", "command-api needs AUTH_ISSUER"),
    ],
)
def test_a_mistake_is_one_clear_sentence(setting: str, said: str) -> None:
    answer = template("--values", VALUES, "--set", setting)

    assert answer.returncode == 1
    assert said in answer.stderr


def test_a_listener_that_answers_to_some_names_answers_to_its_services_too() -> None:
    def told(*options: str) -> list[str]:
        found = rendered("--values", VALUES, "--set", "settings.ALLOWED_HOSTS=null", *options)
        pods = [each["spec"]["template"]["spec"] for each in found if each["kind"] == "Deployment"]
        variables = [each for pod in pods for each in pod["containers"][0].get("env", [])]
        return [each["value"] for each in variables if each["name"] == "ALLOWED_HOSTS"]

    service = "muster-query-api.prod"
    assert told() == [], "none means every name"
    assert told("--set", "processes.query-api.settings.ALLOWED_HOSTS=a.example") == [
        f"a.example,muster-query-api,{service},{service}.svc,{service}.svc.cluster.local"
    ]


def test_pods_may_send_traces_where_they_are_told_a_collector() -> None:
    def open_to(*options: str) -> set[int]:
        policies = [each for each in rendered("--values", VALUES, *options) if each["kind"] == "NetworkPolicy"]
        rules = [rule for each in policies for rule in each["spec"]["egress"]]
        return {port["port"] for rule in rules for port in rule.get("ports", [])}

    endpoint = "settings.OTEL_EXPORTER_OTLP_ENDPOINT=http://collector.monitoring:4318"
    assert 4318 not in open_to()
    assert 4318 in open_to("--set", endpoint)
