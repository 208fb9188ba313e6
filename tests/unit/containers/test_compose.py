"""docker-compose.yml tells every process what its settings class wants, and is as closed as its comments promise."""

import re
import shlex
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chassis.postgres.roles import ROLES
from chassis.settings import OwnerCommandPostgres, OwnerQueryPostgres, Settings, aliases_of, load
from cli.doctor.budget import Instances, budget
from cli.doctor.checks import _without_secrets
from cli.doctor.postgres import Server
from cli.kafka_files import (
    BROKER_FILE,
    CLUSTER_ID,
    FORMAT_FILE,
    LOGINS,
    PASSWORD,
    PRINCIPALS,
    THERE,
    broker_files,
)
from cli.kafka_rights import TopicsSettings
from cli.main import COMMANDS
from cli.operations.audit import AuditSettings
from cli.operations.lag import LagSettings
from cli.processes.serve import REQUEST_GRACE_SECONDS
from cli.secret_files import HOLDERS, ISSUER, KAFKA, TRUSTING, make_secrets
from command_api.settings import CommandApiSettings
from console.settings import ConsoleSettings
from event_api.settings import EventApiSettings
from local_stack.issuer_files import KEY_SET
from local_stack.kafka.jars import KAFKA_VERSION
from local_stack.postgres.server import MAJOR
from outbox.settings import RelaySettings
from projectors.settings import OperatorProjectorSettings, ProjectorSettings
from query_api.settings import QueryApiSettings
from tests.infrastructure import KAFKA_IMAGE, POSTGRES_IMAGE
from tests.unit.containers.files import REFERENCE, ROOT, compose, environment_of, of_kind, project, resolve, service

#: What each container's process reads.
READS: dict[str, tuple[type[Settings], ...]] = {
    "migrate": (OwnerCommandPostgres, OwnerQueryPostgres, TopicsSettings, OperatorProjectorSettings),
    "command-api": (CommandApiSettings,),
    "query-api": (QueryApiSettings,),
    "event-api": (EventApiSettings,),
    "relay": (RelaySettings,),
    "projectors": (ProjectorSettings,),
    "console": (ConsoleSettings,),
    "operator": (LagSettings, AuditSettings),
}
#: What `operator` reads beside, for `doctor`: without their secrets, these can be had.
EXAMINED = (CommandApiSettings, QueryApiSettings, EventApiSettings, RelaySettings, ProjectorSettings, ConsoleSettings)
#: Connections that PostgreSQL keeps for superusers, by default.
RESERVED = 3
#: What `migrate` reads beside: the passwords of the roles that it makes.
PASSWORDS = {f"{prefix}_POSTGRES_PASSWORD" for prefix, _ in ROLES.values()}
_PREFIXES = "|".join(prefix for prefix, _ in ROLES.values())
#: Not for .env to decide: where servers are, how to reach them, on which port a process listens in its container.
DECIDED = re.compile(
    r"KAFKA_(SECURITY|SASL|SSL)_|_HTTP_PORT$|_API_(OPS_)?PORT$|^CONSOLE_(OPS_)?PORT$|^AUTH_DISABLED$"
    rf"|^({_PREFIXES})_POSTGRES_(?!DB$)|^POSTGRES_(USER|PASSWORD)$"
)


def _known(name: str) -> set[str]:
    return {alias for kind in READS[name] for field in kind.model_fields.values() for alias in aliases_of(field)}


@pytest.mark.parametrize("name", READS)
def test_a_container_is_told_nothing_that_its_process_does_not_read(name: str) -> None:
    known = _known(name) | (PASSWORDS if name == "migrate" else set())
    if name == "operator":
        known |= {alias for kind in EXAMINED for field in kind.model_fields.values() for alias in aliases_of(field)}
    known |= {f"{alias}_FILE" for alias in known}

    assert set(service(name)["environment"]) - known == set()


@pytest.mark.parametrize("name", READS)
def test_nothing_has_to_be_filled_in(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for alias in (*_known(name), *HOLDERS):
        monkeypatch.delenv(alias, raising=False)
    make_secrets(tmp_path)
    for variable, value in environment_of(name, {}, tmp_path).items():
        monkeypatch.setenv(variable, value)

    for kind in READS[name]:
        load(kind)


@pytest.mark.parametrize("kind", EXAMINED)
def test_an_operator_can_examine_the_settings_of_every_process(
    kind: type[Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for alias in {alias for one in EXAMINED for field in one.model_fields.values() for alias in aliases_of(field)}:
        monkeypatch.delenv(alias, raising=False)
    make_secrets(tmp_path)
    for variable, value in environment_of("operator", {}, tmp_path).items():
        monkeypatch.setenv(variable, value)

    assert _without_secrets(kind) is not None


@pytest.mark.parametrize("name", [name for name in READS if name not in {"migrate", "operator"}])
def test_every_other_setting_can_be_given_in_the_env_file(name: str) -> None:
    told = set(service(name)["environment"])
    given = told | {variable.removesuffix("_FILE") for variable in told}

    assert {alias for alias in _known(name) - given if not DECIDED.search(alias)} == set()


def test_the_console_reaches_the_apis_whatever_names_they_are_told_to_answer_to() -> None:
    given = {"ALLOWED_HOSTS": "users.example.com"}
    console = environment_of("console", given)
    for variable in ("CONSOLE_COMMAND_URL", "CONSOLE_QUERY_URL", "CONSOLE_EVENTS_URL"):
        host = urlsplit(console[variable]).hostname
        assert host
        assert environment_of(host, given)["ALLOWED_HOSTS"].split(",") == ["users.example.com", host]
        assert not environment_of(host, {})["ALLOWED_HOSTS"], "none means every name"
    assert console["ALLOWED_HOSTS"] == "users.example.com"


def test_no_variable_is_missed_by_compose_which_would_say_so_at_each_command() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")

    assert not re.findall(r"(?<!\$)\$(?:[A-Z_]+|\{[A-Z_]+\})", text)


def test_each_service_sees_the_folder_of_its_own_secrets_alone() -> None:
    told = environment_of("secrets", dict.fromkeys(HOLDERS, "given"))
    every = {
        f"secrets-{part}:/secrets/{part}"
        for part in {ISSUER, KAFKA, *(part for parts in HOLDERS.values() for part in parts)}
    }

    assert set(service("secrets")["volumes"]) == every
    assert told == dict.fromkeys(HOLDERS, "given"), "what .env gives goes before"
    for name, each in compose()["services"].items():
        if name == "secrets":
            continue
        mounts = [volume for volume in each.get("volumes", []) if "/secrets/" in volume]
        files = {str(value) for value in each["environment"].values() if "/secrets/" in str(value)}
        files |= {*each.get("command", [])[-1:]} if name == KAFKA else set()
        read = {path for text in files for path in re.findall(r"/secrets/[\w/.-]+", text)}
        assert read == {f"/secrets/{name}/{file}" for file in _held(name)}
        assert mounts == ([f"secrets-{name}:/secrets/{name}:ro"] if read else [])


def _held(part: str) -> set[str]:
    files = {file for file, parts in HOLDERS.items() if part in parts}
    files |= {BROKER_FILE, FORMAT_FILE} if part == KAFKA else set()
    return files | ({KEY_SET} if part in TRUSTING else set()) | ({PASSWORD} if part in LOGINS else set())


def test_no_secret_is_in_an_environment() -> None:
    for name, each in compose()["services"].items():
        assert name == "secrets" or not set(each["environment"]) & set(HOLDERS)


def test_the_image_has_every_folder_of_secrets_so_that_its_user_may_write_the_volume() -> None:
    [folders] = [set(re.findall(r"/secrets/[a-z-]+", text)) for text in of_kind("RUN") if "install --directory" in text]

    assert folders == {volume.partition(":")[2] for volume in service("secrets")["volumes"]}


@pytest.mark.parametrize("name", ["command-api", "query-api", "event-api", "relay", "projectors"])
def test_each_process_connects_as_its_own_role(name: str) -> None:
    users = {value for variable, value in environment_of(name, {}).items() if variable.endswith("POSTGRES_USER")}

    assert users == {"muster_events" if name == "event-api" else f"muster_{name.removesuffix('-api')}"}


@pytest.mark.parametrize("file", ["postgres/POSTGRES_PASSWORD", f"{KAFKA}/{BROKER_FILE}", f"{KAFKA}/{FORMAT_FILE}"])
def test_a_server_may_read_its_passwords_by_its_group(tmp_path: Path, file: str) -> None:
    make_secrets(tmp_path)
    [user] = of_kind("USER")

    assert service(file.partition("/")[0])["group_add"] == [user.partition(":")[2]]
    assert (tmp_path / file).stat().st_mode & 0o777 == 0o640


def test_each_part_logs_in_at_kafka_as_itself() -> None:
    told = {name: environment_of(name, {}).get("KAFKA_SASL_USERNAME") for name in READS}

    assert {name: user for name, user in told.items() if user} == LOGINS
    [rights] = [step for step in service("migrate")["command"][0].split("&&") if "topics" in step]
    assert {f"--{name} {name}" for name in PRINCIPALS} <= set(re.findall(r"--\w+ \w+", rights.partition("--acls")[2]))


#: Variables of docker-compose.yml that no process reads.
COMPOSES_OWN = {"KAFKA_PORT", "PYTHON_IMAGE", "POSTGRES_IMAGE", "KAFKA_IMAGE"}


def test_every_variable_that_the_file_refers_to_is_in_the_example() -> None:
    """But compose's own, settings of no process: they are named in the guide."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    guide = (ROOT / "docs" / "how-to" / "run-in-containers.md").read_text(encoding="utf-8")
    named = {name for found in REFERENCE.finditer(text) for name in re.findall(r"\$\{([A-Z_]+)", found[0])}

    assert {name for name in named if not re.search(rf"^#?{name}=", example, re.MULTILINE)} == COMPOSES_OWN
    assert {name for name in COMPOSES_OWN if f"`{name}`" not in guide} == set()


def test_every_process_is_there_as_often_as_promised() -> None:
    services = compose()["services"]

    assert set(services) == {"secrets", "postgres", "kafka", *READS}
    assert {name: services[name].get("deploy", {}).get("replicas", 1) for name in READS} == {
        "migrate": 1,
        "command-api": 1,
        "query-api": 1,
        "event-api": 1,
        "relay": 2,
        "projectors": 2,
        "console": 1,
        "operator": 1,
    }
    for name in ("command-api", "query-api"):
        assert environment_of(name, {})["WORKERS"] == "4"
        assert environment_of(name, {"WORKERS": "2"})["WORKERS"] == "2"


@pytest.mark.parametrize("name", READS)
def test_commands_are_commands_of_ours(name: str) -> None:
    words = service(name)["command"]
    if name == "migrate":
        steps = [shlex.split(step.strip().removeprefix("exec ")) for step in words[0].split("&&")]
        topics = "muster topics --acls --relay relay --projectors projectors --events events"
        expected = ("muster roles all", "muster migrate all", topics, "muster rebuild outdated")
        assert steps == list(map(str.split, expected))
    else:
        assert words[0] in COMMANDS


def test_everything_waits_until_tables_and_topics_are_there() -> None:
    for name in READS:
        conditions = {other: how["condition"] for other, how in service(name).get("depends_on", {}).items()}
        if name == "migrate":
            assert conditions == {"postgres": "service_healthy", "kafka": "service_healthy"}
        elif name == "operator":
            assert conditions == {}, "it looks at what is down, and starts nothing"
        else:
            assert conditions["migrate"] == "service_completed_successfully"
    assert service("migrate")["restart"] == "no"


def test_ports_are_those_of_this_machine_alone() -> None:
    published = {name: each["ports"] for name, each in compose()["services"].items() if "ports" in each}

    assert set(published) == {"postgres", "kafka", "command-api", "query-api", "event-api", "console"}
    for ports in published.values():
        for port in ports:
            assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", str(resolve(port, {})))


def test_an_api_is_published_where_its_settings_say_and_location_leads_there() -> None:
    moved = {"COMMAND_API_PORT": "9000", "QUERY_API_PORT": "9001"}

    assert resolve(service("command-api")["ports"][0], moved) == "127.0.0.1:9000:8000"
    assert resolve(service("query-api")["ports"][0], moved) == "127.0.0.1:9001:8001"
    assert environment_of("command-api", moved)["PUBLIC_QUERY_URL"] == "http://127.0.0.1:9001"
    public = {"PUBLIC_QUERY_URL": "https://users.example.com"}
    assert environment_of("command-api", public)["PUBLIC_QUERY_URL"] == "https://users.example.com"


def test_the_servers_are_those_that_the_tests_and_the_local_stack_use() -> None:
    assert resolve(service("postgres")["image"], {}) == POSTGRES_IMAGE == f"postgres:{MAJOR}"
    assert resolve(service("kafka")["image"], {}) == KAFKA_IMAGE == f"apache/kafka:{KAFKA_VERSION}"


def test_every_image_can_be_replaced_as_a_whole() -> None:
    pinned = {name: f"{name.lower()}@sha256:{'0' * 64}" for name in ("PYTHON_IMAGE", "POSTGRES_IMAGE", "KAFKA_IMAGE")}
    images = [
        service("postgres")["image"],
        service("kafka")["image"],
        service("secrets")["build"]["args"]["PYTHON_IMAGE"],
    ]

    assert {resolve(image, pinned) for image in images} == set(pinned.values())
    assert (
        resolve(images[-1], {})
        == dict(argument.split("=") for argument in of_kind("ARG") if "=" in argument)["PYTHON_IMAGE"]
    )


@pytest.mark.parametrize("name", READS)
def test_our_containers_can_write_nothing_and_become_nobody(name: str) -> None:
    ours = service(name)

    assert ours["image"] == f"muster:{project()['project']['version']}"
    assert ours["read_only"] is True
    assert [mount.partition(":")[0] for mount in ours["tmpfs"]] == ["/tmp"]
    assert ours["init"] is True


def test_one_image_is_built_once_by_the_service_that_all_wait_for() -> None:
    services = compose()["services"]

    assert {name for name, each in services.items() if "build" in each} == {"secrets"}
    assert all(services[name]["pull_policy"] == "never" for name in READS)
    for name in set(services) - {"secrets", "operator"}:
        waited = set(services[name]["depends_on"])
        assert waited & {"secrets", "postgres", "kafka"}


def test_every_container_has_no_capability_and_a_grace_period_that_is_long_enough() -> None:
    for each in compose()["services"].values():
        assert each["cap_drop"] == ["ALL"]
        assert each["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in each
        assert "cap_add" not in each
        assert int(each["stop_grace_period"].removesuffix("s")) >= 2 * REQUEST_GRACE_SECONDS
        assert each["logging"]["options"]["max-size"]


def test_the_apis_trust_the_issuer_that_is_made_unless_another_is_named() -> None:
    for name in TRUSTING:
        assert environment_of(name, {})["AUTH_JWKS_FILE"] == f"/secrets/{name}/jwks.json"
        own = {"AUTH_ISSUER": "https://login.example.com", "AUTH_AUDIENCE": "users", "AUTH_JWKS_FILE": ""}
        told = environment_of(name, own)
        assert (told["AUTH_ISSUER"], told["AUTH_AUDIENCE"], told["AUTH_JWKS_FILE"]) == tuple(own.values())


def test_data_outlives_the_containers() -> None:
    mounts = [str(volume) for each in compose()["services"].values() for volume in each.get("volumes", [])]

    assert "postgres:/var/lib/postgresql" in mounts, "from version 18 on it is not …/data"
    assert f"kafka:{_broker()['log.dirs']}" in mounts
    for mount in mounts:
        source = mount.partition(":")[0]
        assert source in compose()["volumes"], "a file of the checkout may be one that the container cannot read"


def _broker() -> dict[str, str]:
    """What the file of the broker says."""
    with tempfile.TemporaryDirectory() as folder:
        text = broker_files(Path(folder))[BROKER_FILE]
    return dict(line.split("=", 1) for line in text.splitlines())


def test_the_broker_is_formatted_as_what_it_starts_as() -> None:
    assert service("kafka")["environment"]["CLUSTER_ID"] == CLUSTER_ID
    assert f"@{THERE}/{FORMAT_FILE}" in service("kafka")["command"][-1]


def test_kafkas_image_leaves_no_volume_without_a_name_behind() -> None:
    """It declares three; `docker image inspect` shows them."""
    mounts = [volume.split(":")[1] for volume in service("kafka")["volumes"]]

    tmpfs = [each.partition(":")[0] for each in service("kafka")["tmpfs"]]
    assert {*mounts, *tmpfs} >= {"/etc/kafka/secrets", "/var/lib/kafka/data", "/mnt/shared/config"}


def test_one_broker_is_enough_for_everything_that_kafka_keeps() -> None:
    environment = service("kafka")["environment"]
    kept = re.compile("REPLICATION_FACTOR|MIN_ISR|MIN_INSYNC")
    counts = {name: value for name, value in environment.items() if kept.search(name)}

    assert set(counts.values()) == {1}
    assert {name.partition("_STATE")[0] for name in counts} >= {"KAFKA_TRANSACTION", "KAFKA_SHARE_COORDINATOR"}
    assert "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR" in counts


def test_kafka_tells_containers_and_this_machine_where_each_can_reach_it() -> None:
    told, broker = environment_of("kafka", {"KAFKA_PORT": "9192"}), _broker()
    advertised = dict(entry.split("://") for entry in told["KAFKA_ADVERTISED_LISTENERS"].split(","))
    listening = dict(entry.split("://") for entry in broker["listeners"].split(","))
    protocols = dict(entry.split(":") for entry in broker["listener.security.protocol.map"].split(","))

    assert advertised == {"INTERNAL": "kafka:19092", "HOST": "127.0.0.1:9192"}
    assert environment_of("relay", {})["KAFKA_BOOTSTRAP_SERVERS"] == advertised["INTERNAL"]
    assert resolve(service("kafka")["ports"][0], {"KAFKA_PORT": "9192"}) == f"127.0.0.1:9192{listening['HOST']}"
    assert set(listening) == set(protocols) == {*advertised, broker["controller.listener.names"]}
    assert broker["inter.broker.listener.name"] in advertised
    assert set(protocols.values()) == {"SASL_PLAINTEXT"}


def test_postgres_accepts_what_all_processes_may_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    make_secrets(tmp_path)
    for name in ("command-api", "query-api", "projectors"):
        for variable, value in environment_of(name, {}, tmp_path).items():
            monkeypatch.setenv(variable, value)
    words = service("postgres")["command"]
    [connections] = [int(word.partition("=")[2]) for word in words if word.startswith("max_connections")]
    server = Server(datetime(2026, 11, 30, tzinfo=UTC), "5432", connections - RESERVED, RESERVED)
    relays, projectors = (service(name)["deploy"]["replicas"] for name in ("relay", "projectors"))
    instances = Instances(relays=relays, projectors=projectors)
    [finding] = budget(
        load(CommandApiSettings),
        load(QueryApiSettings),
        load(ProjectorSettings),
        instances,
        {"command": server, "query": server},
    )

    assert finding.result == "ok"
    [counted] = re.findall(r"= (\d+) of", finding.found)
    assert f"may open {counted} connections, as `doctor` counts them" in (ROOT / "docker-compose.yml").read_text()


def _steps_of_an_upgrade() -> list[str]:
    """Between `&&`: a step that fails is the last."""
    guide = (ROOT / "docs" / "how-to" / "run-in-containers.md").read_text(encoding="utf-8")
    [block] = re.findall(r"^## Upgrade\n\n```\n(.+?)\n```$", guide, re.MULTILINE | re.DOTALL)
    return [step.strip() for step in block.split("&&")]


def test_an_upgrade_stops_at_the_step_that_fails() -> None:
    steps = _steps_of_an_upgrade()

    assert all("\n" not in step for step in steps[:-1])
    assert "--no-deps --wait $service || break\n" in steps[-1]
    assert (
        steps.index("docker compose build") < steps.index("docker compose run --rm --no-deps migrate") < len(steps) - 1
    )


def test_an_upgrade_replaces_every_process_of_ours() -> None:
    [replaced] = re.findall(r"^for service in (.+); do$", _steps_of_an_upgrade()[-1], re.MULTILINE)
    services = compose()["services"]
    ours = {name for name, one in services.items() if one["image"] == service("migrate")["image"]}
    lasting = {name for name in ours if services[name]["restart"] != "no"}

    assert {"migrate", "command-api"} <= ours
    assert sorted(replaced.split()) == sorted(lasting)
