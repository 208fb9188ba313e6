"""docker-compose.yml tells every process what its settings class wants, and is as closed as its comments promise."""

import re
import shlex
from pathlib import Path

import pytest

from chassis.postgres.roles import ROLES
from chassis.settings import CommandPostgres, OwnerCommandPostgres, OwnerQueryPostgres, Settings, _aliases, load
from cli.kafka_rights import TopicsSettings
from cli.main import COMMANDS
from cli.operations.audit import AuditSettings
from cli.operations.lag import LagSettings
from cli.processes.serve import REQUEST_GRACE_SECONDS
from cli.secret_files import HOLDERS, ISSUER, TRUSTING, make_secrets
from command_api.settings import CommandApiSettings
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
    "relay": (RelaySettings,),
    "projectors": (ProjectorSettings,),
    "operator": (LagSettings, AuditSettings),
}
#: What `migrate` reads beside: the passwords of the roles that it makes.
PASSWORDS = {f"{prefix}_POSTGRES_PASSWORD" for prefix, _ in ROLES.values()}
_PREFIXES = "|".join(prefix for prefix, _ in ROLES.values())
#: Not for .env to decide: where servers are, how to reach them, on which port a process listens in its container.
DECIDED = re.compile(
    r"KAFKA_(SECURITY|SASL|SSL)_|^POSTGRES_SSL|_HTTP_PORT$|_API_(OPS_)?PORT$|^AUTH_DISABLED$"
    rf"|^({_PREFIXES})_POSTGRES_(?!DB$)|^POSTGRES_(USER|PASSWORD)$"
)


def _known(name: str) -> set[str]:
    return {alias for kind in READS[name] for field in kind.model_fields.values() for alias in _aliases(field)}


@pytest.mark.parametrize("name", READS)
def test_a_container_is_told_nothing_that_its_process_does_not_read(name: str) -> None:
    known = _known(name) | (PASSWORDS if name == "migrate" else set())
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


@pytest.mark.parametrize("name", [name for name in READS if name not in {"migrate", "operator"}])
def test_every_other_setting_can_be_given_in_the_env_file(name: str) -> None:
    told = set(service(name)["environment"])
    given = told | {variable.removesuffix("_FILE") for variable in told}

    assert {alias for alias in _known(name) - given if not DECIDED.search(alias)} == set()


def test_each_service_sees_the_folder_of_its_own_secrets_alone() -> None:
    told = environment_of("secrets", dict.fromkeys(HOLDERS, "given"))
    every = {
        f"secrets-{part}:/secrets/{part}" for part in {ISSUER, *(part for parts in HOLDERS.values() for part in parts)}
    }

    assert set(service("secrets")["volumes"]) == every
    assert told == dict.fromkeys(HOLDERS, "given"), "what .env gives goes before"
    for name, each in compose()["services"].items():
        if name == "secrets":
            continue
        mounts = [volume for volume in each.get("volumes", []) if "/secrets/" in volume]
        files = {str(value) for value in each["environment"].values() if "/secrets/" in str(value)}
        read = {path for text in files for path in re.findall(r"/secrets/[\w/.-]+", text)}
        assert read == {f"/secrets/{name}/{file}" for file in _held(name)}
        assert mounts == ([f"secrets-{name}:/secrets/{name}:ro"] if read else [])


def _held(part: str) -> set[str]:
    return {file for file, parts in HOLDERS.items() if part in parts} | ({KEY_SET} if part in TRUSTING else set())


def test_no_secret_is_in_an_environment() -> None:
    for name, each in compose()["services"].items():
        assert name == "secrets" or not set(each["environment"]) & set(HOLDERS)


def test_the_image_has_every_folder_of_secrets_so_that_its_user_may_write_the_volume() -> None:
    [folders] = [set(re.findall(r"/secrets/[a-z-]+", text)) for text in of_kind("RUN") if "install --directory" in text]

    assert folders == {volume.partition(":")[2] for volume in service("secrets")["volumes"]}


@pytest.mark.parametrize("name", [name for name in READS if name != "migrate"])
def test_each_process_connects_as_its_own_role(name: str) -> None:
    users = {value for variable, value in environment_of(name, {}).items() if variable.endswith("POSTGRES_USER")}

    assert users == {f"muster_{name.removesuffix('-api')}"}


def test_postgres_may_read_its_password_by_its_group(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    [user] = of_kind("USER")

    assert service("postgres")["group_add"] == [user.partition(":")[2]]
    assert (tmp_path / "postgres" / "POSTGRES_PASSWORD").stat().st_mode & 0o777 == 0o640


def test_every_variable_that_the_file_refers_to_is_in_the_example() -> None:
    """KAFKA_PORT is compose's own: a setting of no process, it is named in the guide."""
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    guide = (ROOT / "docs" / "how-to" / "run-in-containers.md").read_text(encoding="utf-8")
    named = {name for found in REFERENCE.finditer(text) for name in re.findall(r"\$\{([A-Z_]+)", found[0])}

    assert {name for name in named if not re.search(rf"^#?{name}=", example, re.MULTILINE)} == {"KAFKA_PORT"}
    assert "`KAFKA_PORT`" in guide


def test_every_process_is_there_as_often_as_promised() -> None:
    services = compose()["services"]

    assert set(services) == {"secrets", "postgres", "kafka", *READS}
    assert {name: services[name].get("deploy", {}).get("replicas", 1) for name in READS} == {
        "migrate": 1,
        "command-api": 1,
        "query-api": 1,
        "relay": 2,
        "projectors": 2,
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
        expected = ("muster roles all", "muster migrate all", "muster topics", "muster rebuild outdated")
        assert steps == list(map(str.split, expected))
    else:
        assert words[0] in COMMANDS


def test_everything_waits_until_tables_and_topics_are_there() -> None:
    for name in READS:
        conditions = {other: how["condition"] for other, how in service(name)["depends_on"].items()}
        if name == "migrate":
            assert conditions == {"postgres": "service_healthy", "kafka": "service_healthy"}
        else:
            assert conditions["migrate"] == "service_completed_successfully"
    assert service("migrate")["restart"] == "no"


def test_ports_are_those_of_this_machine_alone() -> None:
    published = {name: each["ports"] for name, each in compose()["services"].items() if "ports" in each}

    assert set(published) == {"postgres", "kafka", "command-api", "query-api"}
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
    assert service("postgres")["image"] == POSTGRES_IMAGE == f"postgres:{MAJOR}"
    assert service("kafka")["image"] == KAFKA_IMAGE == f"apache/kafka:{KAFKA_VERSION}"


@pytest.mark.parametrize("name", READS)
def test_our_containers_can_write_nothing_and_become_nobody(name: str) -> None:
    ours = service(name)

    assert ours["image"] == f"muster:{project()['project']['version']}"
    assert ours["build"] == "."
    assert ours["read_only"] is True
    assert [mount.partition(":")[0] for mount in ours["tmpfs"]] == ["/tmp"]
    assert ours["init"] is True


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
    assert f"kafka:{service('kafka')['environment']['KAFKA_LOG_DIRS']}" in mounts
    for mount in mounts:
        source = mount.partition(":")[0]
        assert source in compose()["volumes"] or (ROOT / source).is_file()


def test_the_second_database_is_made_by_a_script_that_knows_its_name() -> None:
    [script] = [volume for volume in service("postgres")["volumes"] if "docker-entrypoint-initdb.d" in volume]
    text = (ROOT / script.partition(":")[0]).read_text(encoding="utf-8")

    wanted = environment_of("query-api", {})["QUERY_POSTGRES_DB"]
    told = environment_of("postgres", {})
    assert (told["POSTGRES_DB"], told["QUERY_POSTGRES_DB"]) == ("muster_command", wanted)
    assert 'createdb --username "$POSTGRES_USER"' in text
    assert '"$QUERY_POSTGRES_DB"' in text


def test_one_broker_is_enough_for_everything_that_kafka_keeps() -> None:
    environment = service("kafka")["environment"]
    kept = re.compile("REPLICATION_FACTOR|MIN_ISR|MIN_INSYNC")
    counts = {name: value for name, value in environment.items() if kept.search(name)}

    assert set(counts.values()) == {1}
    assert {name.partition("_STATE")[0] for name in counts} >= {"KAFKA_TRANSACTION", "KAFKA_SHARE_COORDINATOR"}
    assert "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR" in counts


def test_kafka_tells_containers_and_this_machine_where_each_can_reach_it() -> None:
    told = environment_of("kafka", {"KAFKA_PORT": "9192"})
    advertised = dict(entry.split("://") for entry in told["KAFKA_ADVERTISED_LISTENERS"].split(","))
    listening = dict(entry.split("://") for entry in told["KAFKA_LISTENERS"].split(","))
    protocols = dict(entry.split(":") for entry in told["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))

    assert advertised == {"INTERNAL": "kafka:19092", "HOST": "127.0.0.1:9192"}
    assert environment_of("relay", {})["KAFKA_BOOTSTRAP_SERVERS"] == advertised["INTERNAL"]
    assert resolve(service("kafka")["ports"][0], {"KAFKA_PORT": "9192"}) == f"127.0.0.1:9192{listening['HOST']}"
    assert set(listening) == set(protocols) == {*advertised, told["KAFKA_CONTROLLER_LISTENER_NAMES"]}
    assert told["KAFKA_INTER_BROKER_LISTENER_NAME"] in advertised


def test_postgres_accepts_what_all_processes_may_open() -> None:
    [connections] = [
        int(word.partition("=")[2]) for word in service("postgres")["command"] if word.startswith("max_connections")
    ]
    address = CommandPostgres.model_fields
    each = address["command_postgres_pool_size"].default + address["command_postgres_max_overflow"].default
    workers = sum(int(environment_of(name, {})["WORKERS"]) for name in ("command-api", "query-api"))
    projectors = service("projectors")["deploy"]["replicas"]

    others = 40  # locks, listeners, work lists, maintenance, and a person's psql
    assert connections >= (workers + projectors) * each + others
