"""The chart's objects are valid, closed, and let nobody down while they are changed."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from chassis.access.settings import AccessSettings
from chassis.kafka.acls import Acl, Pattern
from chassis.settings import load
from cli.kafka_rights import Principals, TopicsSettings, rights
from cli.processes.probe import PORTS
from cli.processes.serve import REQUEST_GRACE_SECONDS
from deploy.chart import READS, digest, variables
from local_stack.secret_values import make_secret
from tests.certificates import Authority
from tests.settings_classes import fields, is_ours
from tests.unit.containers.files import of_kind as instructions_of_kind
from tests.unit.containers.files import project
from tests.unit.deploy.custom_resources import SCHEMAS, faults
from tests.unit.deploy.files import CHART
from tests.unit.deploy.rendered import DEFAULTS as WITHOUT_VALUES
from tests.unit.deploy.rendered import PRODUCTION, VALUES, kept_digest, objects, of_kind

#: The newest Kubernetes whose schemas the validator brings; `kubeVersion` says the oldest.
NEWEST = kubernetes_validate.latest_version()
OLDEST = "1.30"
RENDERED = pytest.mark.parametrize("file", [PRODUCTION, WITHOUT_VALUES], ids=["production", "defaults"])
PROCESSES: dict[str, Any] = yaml.safe_load((CHART / "files" / "processes.yaml").read_text(encoding="utf-8"))
#: Of these there is one at most.
ALONE = {name for name, process in PROCESSES.items() if process.get("alone")}
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))


def sections() -> dict[str, dict[str, Any]]:
    """The part of the values that each workload has of its own."""
    return {**DEFAULTS["processes"], "migrate": DEFAULTS["migrate"], "operator": DEFAULTS["operator"]}


def pods(file: Path = PRODUCTION) -> dict[str, dict[str, Any]]:
    """The pod of each workload."""
    workloads = {**of_kind("Deployment", file), **of_kind("Job", file)}
    return {name: each["spec"]["template"]["spec"] for name, each in workloads.items()}


def containers(file: Path = PRODUCTION) -> dict[str, dict[str, Any]]:
    """The container of each workload."""
    return {name: pod["containers"][0] for name, pod in pods(file).items()}


def environment(name: str, file: Path = PRODUCTION) -> dict[str, str]:
    """What a workload's container is told."""
    return {each["name"]: each["value"] for each in containers(file)[name]["env"]}


@RENDERED
def test_what_is_kept_was_rendered_of_this_chart(file: Path) -> None:
    assert kept_digest(file) == digest(CHART), "the chart has changed: RENDER=1 make test ARGS=tests/unit/deploy"


def test_whoever_is_in_the_cluster_reaches_the_apis_whatever_names_they_are_told_to_answer_to() -> None:
    told = environment("console").items()
    # The inner ports, which the overview asks for figures, answer to every name.
    public = {"CONSOLE_COMMAND_URL", "CONSOLE_QUERY_URL", "CONSOLE_EVENTS_URL"}
    asked = {urlsplit(url).hostname or "" for name, url in told if name in public}
    for host in asked:
        names = environment(host.removeprefix("muster-"))["ALLOWED_HOSTS"].split(",")
        assert names == [
            "users.example.com",
            host,
            *(f"{host}.prod{rest}" for rest in ("", ".svc", ".svc.cluster.local")),
        ]
    assert len(asked) == 3


@RENDERED
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_every_object(file: Path, version: str) -> None:
    for each in objects(file):
        if each["kind"] not in SCHEMAS:
            kubernetes_validate.validate(each, version, strict=True)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_operators_of_others_find_all_that_they_need(kind: str) -> None:
    found = of_kind(kind)

    assert found
    assert {name: faults(each) for name, each in found.items()} == {name: [] for name in found}


def test_the_defaults_are_the_processes_and_what_guards_them() -> None:
    assert {each["kind"] for each in objects(WITHOUT_VALUES)} == {
        "Deployment",
        "Job",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
    }


def test_each_process_has_what_keeps_it_running() -> None:
    everywhere = set(PROCESSES)

    assert set(DEFAULTS["processes"]) == everywhere
    assert set(of_kind("Deployment")) == {*everywhere, "operator"}
    assert set(of_kind("PodDisruptionBudget")) == everywhere - ALONE
    assert set(of_kind("NetworkPolicy")) == {*everywhere, "migrate", "operator"}
    assert {f"{name}-inner" for name in everywhere} <= set(of_kind("Service"))
    assert set(of_kind("HorizontalPodAutoscaler")) == {"command-api", "query-api"}
    assert set(of_kind("ScaledObject")) == {"projectors"}


def test_every_process_is_one_of_the_programs_and_listens_where_its_settings_say() -> None:
    assert {process["inner"]["port"] for process in PROCESSES.values()} == set(PORTS.values())
    for process in PROCESSES.values():
        for port in filter(None, (process.get("public"), process["inner"])):
            variable = port["host"].replace("_HOST", "_PORT")
            assert fields()[variable].default == port["port"]
            assert port["host"] in fields()


@pytest.mark.parametrize("name", sorted(set(PROCESSES) - ALONE))
def test_no_pod_goes_before_another_one_is_there(name: str) -> None:
    deployment = of_kind("Deployment")[name]

    assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert of_kind("PodDisruptionBudget")[name]["spec"]["maxUnavailable"] == 1
    scaled = name in {*of_kind("HorizontalPodAutoscaler"), *of_kind("ScaledObject")}
    # An upgrade must not set back what has been scaled.
    assert ("replicas" in deployment["spec"]) != scaled
    assert DEFAULTS["processes"][name]["replicas"] >= 2


@pytest.mark.parametrize("name", PROCESSES)
def test_a_pod_is_asked_on_its_inner_port(name: str) -> None:
    container = containers()[name]

    assert container["startupProbe"]["httpGet"] == {"path": "/livez", "port": "inner"}
    assert container["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "inner"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "inner"}


def test_there_is_never_a_second_console_which_would_not_know_of_the_rebuilds_of_the_first() -> None:
    deployment = of_kind("Deployment")["console"]

    assert {"console"} == ALONE
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    assert deployment["spec"]["replicas"] == 1


@pytest.mark.parametrize("name", ["command-api", "query-api", "event-api"])
def test_an_api_serves_until_everybody_has_heard_that_it_goes(name: str) -> None:
    drain = containers()[name]["lifecycle"]["preStop"]["sleep"]["seconds"]

    assert drain == DEFAULTS["drainSeconds"]
    assert pods()[name]["terminationGracePeriodSeconds"] > drain + REQUEST_GRACE_SECONDS


def test_every_pod_is_closed() -> None:
    user = int(instructions_of_kind("USER")[-1].partition(":")[0])
    for name, pod in pods().items():
        assert pod["automountServiceAccountToken"] is False
        # A Service named command-api would otherwise set COMMAND_API_PORT, to something that is no port.
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsUser"] == user
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert containers()[name]["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(containers()[name]["resources"]["limits"]) == {"memory"}


def test_whoever_types_commands_reaches_what_they_ask_and_nobody_reaches_them() -> None:
    policies = of_kind("NetworkPolicy")
    operator = of_kind("Deployment")["operator"]["spec"]["selector"]["matchLabels"]
    release = {key: operator[key] for key in operator if not key.endswith("component")}

    for name in PROCESSES:
        for rule in policies[name]["spec"]["ingress"]:
            assert {"podSelector": {"matchLabels": operator}} in rule["from"], name
    assert "ingress" not in policies["operator"]["spec"]
    assert {"to": [{"podSelector": {"matchLabels": release}}]} in policies["operator"]["spec"]["egress"]
    assert _asked(policies["operator"]) == _asked(policies["console"])


def _asked(policy: dict[str, Any]) -> set[int]:
    return {port["port"] for rule in policy["spec"]["egress"] for port in rule.get("ports", [])}


def test_a_release_makes_and_changes_no_secret() -> None:
    assert of_kind("Secret") == {}
    assert not any("secretKeyRef" in str(each) for each in objects())


def test_a_new_version_of_the_chart_restarts_nothing_by_itself() -> None:
    for each in of_kind("Deployment").values():
        pod, selector = each["spec"]["template"]["metadata"], each["spec"]["selector"]["matchLabels"]
        assert pod == {"labels": selector}
        assert not any("chart" in label or "version" in label for label in selector)


def test_tables_and_topics_are_there_before_anything_else() -> None:
    annotations = of_kind("Job")["migrate"]["metadata"]["annotations"]
    [*_, command] = containers()["migrate"]["command"]

    assert annotations["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert command == "muster roles all && muster migrate all && muster topics"


@pytest.mark.parametrize("name", READS)
def test_a_process_is_told_what_its_settings_class_wants_and_nothing_else(name: str) -> None:
    known, told = variables()[name], environment(name)
    listening = {port["host"] for port in (PROCESSES.get(name, {}).get(key) for key in ("public", "inner")) if port}
    listening |= {"RELAY_HTTP_HOST"} if name in {"operator", "console"} else set()
    listening |= {"PROJECTORS_HTTP_HOST"} if name == "console" else set()
    files = {f"{variable}_FILE" for variable in known["secrets"]}

    assert set(told) - set(known["settings"]) - files - listening == set()
    for alternatives in known["required"]:
        assert any(variable in told or f"{variable}_FILE" in told for variable in alternatives), alternatives


@RENDERED
@pytest.mark.parametrize("name", READS)
def test_a_process_starts_with_what_it_is_told(
    name: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name not in containers(file):
        assert name == "operator", "which is off by default"
        return
    for variable in filter(is_ours, list(os.environ)):
        monkeypatch.delenv(variable)
    authority = str(Authority(tmp_path).file)
    for variable, value in environment(name, file).items():
        if value.startswith("/secrets/"):
            secret = tmp_path / Path(value).name
            secret.write_text(make_secret(secret.name), encoding="utf-8")
            monkeypatch.setenv(variable, str(secret))
        else:
            monkeypatch.setenv(variable, authority if value.startswith("/certificates/") else value)
    monkeypatch.chdir(tmp_path)

    for kind in READS[name]:
        settings = load(kind)
        if isinstance(settings, AccessSettings):
            assert settings.expectations("0.0.0.0") is not None


@pytest.mark.parametrize("name", READS)
def test_a_secret_is_a_file_of_the_process_that_reads_it(name: str) -> None:
    [volume] = [volume for volume in pods()[name]["volumes"] if volume["name"] == "secrets"]
    mounted = {item["path"] for source in volume["projected"]["sources"] for item in source["secret"]["items"]}

    assert {f"{file}_FILE" for file in mounted} == {key for key in environment(name) if key.endswith("_FILE")} - {
        "AUTH_JWKS_FILE"
    }
    assert not set(environment(name)) & set(variables()[name]["secrets"])


def test_values_name_settings_and_secrets_that_there_are() -> None:
    every = {variable for known in variables().values() for variable in known["settings"]}

    assert set(DEFAULTS["settings"]) - every == set()
    for name, section in sections().items():
        assert set(section.get("settings", {})) - set(variables()[name]["settings"]) == set()
        assert set(section["secrets"]) - set(variables()[name]["secrets"]) == set()


def test_the_chart_is_of_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    version = project()["project"]["version"]

    assert (chart["version"], chart["appVersion"]) == (version, version)
    assert chart["kubeVersion"] == f">={OLDEST}.0-0"


def test_strimzis_users_have_the_rights_that_muster_topics_would_give() -> None:
    documents = yaml.safe_load_all((VALUES.parent / "strimzi.yaml").read_text(encoding="utf-8"))
    users = {each["metadata"]["name"]: each for each in documents if each["kind"] == "KafkaUser"}
    settings = TopicsSettings.model_validate({"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092"})
    wanted = rights(Principals(relay="kafka-relay", projectors="kafka-projectors", events="kafka-events"), settings)
    # It reads the topic, and rebuilds, as projectors do.
    wanted += rights(Principals(relay="kafka-relay", projectors="kafka-console", events="kafka-events"), settings)

    for name in ("kafka-relay", "kafka-projectors", "kafka-events", "kafka-console"):
        given = {
            (resource["type"], resource["name"], resource.get("patternType", "literal"), operation)
            for rule in users[name]["spec"]["authorization"]["acls"]
            for resource in [rule["resource"]]
            for operation in rule["operations"]
        }
        assert given == {_in_strimzis_words(acl) for acl in wanted if acl.principal == f"User:{name}"}


def _in_strimzis_words(acl: Acl) -> tuple[str, str, str, str]:
    def camel(name: str) -> str:
        first, *others = name.lower().split("_")
        return first + "".join(word.title() for word in others)

    operation = camel(acl.operation.name)
    pattern = "prefix" if acl.pattern is Pattern.PREFIXED else "literal"
    return camel(acl.resource.name), acl.name, pattern, operation[0].upper() + operation[1:]
