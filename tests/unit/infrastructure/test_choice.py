"""Which servers a test run uses, and what Docker is told where there is one."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from testcontainers.core.config import testcontainers_config

from tests.infrastructure import (
    DOCKER,
    KAFKA_IMAGE,
    LOCAL,
    POSTGRES_IMAGE,
    InfrastructureError,
    choose,
    kafka_container,
    named_servers,
    postgres_container,
)
from tests.unit.containers.files import service
from tests.unit.infrastructure.docker_daemon import Daemon, docker_daemon


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One without servers in its environment and with nobody on its Docker socket, whose place is given."""
    for part in ("SERVER", "PORT", "USER", "PASSWORD"):
        monkeypatch.delenv(f"TEST_POSTGRES_{part}", raising=False)
    for name in ("TEST_KAFKA_BOOTSTRAP_SERVERS", "MUSTER_TEST_PULL", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)
    # As testcontainers reads it from TESTCONTAINERS_RYUK_DISABLED.
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", False)
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        socket = Path(folder, "docker.sock")
        monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
        yield socket


def _choice() -> Any:
    """Decided anew: a run decides once."""
    return choose.__wrapped__()


ALL_IMAGES = {POSTGRES_IMAGE, KAFKA_IMAGE, testcontainers_config.ryuk_image}


def test_without_docker_the_local_stack_is_used_and_the_reason_given(machine: Path) -> None:
    choice = _choice()

    assert not choice.docker
    assert choice.words == f"{LOCAL}, because no Docker daemon answers"


def test_docker_is_used_where_a_daemon_has_every_image(machine: Path) -> None:
    with docker_daemon(machine, ALL_IMAGES):
        choice = _choice()

    assert choice.docker
    assert choice.words == DOCKER


@pytest.mark.parametrize("missing", sorted(ALL_IMAGES))
def test_a_missing_image_is_named_and_pulled_only_when_told(
    machine: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with docker_daemon(machine, ALL_IMAGES - {missing}):
        refused = _choice()
        monkeypatch.setenv("MUSTER_TEST_PULL", "1")
        allowed = _choice()

    assert f"because Docker has no image {missing} (MUSTER_TEST_PULL=1" in refused.words
    assert allowed.docker


def test_servers_in_the_environment_go_before_docker(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_POSTGRES_SERVER", "db")
    with pytest.raises(InfrastructureError, match="TEST_KAFKA_BOOTSTRAP_SERVERS"):
        named_servers()
    monkeypatch.setenv("TEST_POSTGRES_USER", "u")
    monkeypatch.setenv("TEST_POSTGRES_PASSWORD", "p")
    monkeypatch.setenv("TEST_KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")

    with docker_daemon(machine, ALL_IMAGES):
        choice = _choice()

    assert choice.words == "named in the environment"
    assert choice.named is not None
    assert (choice.named.postgres.host, choice.named.postgres.port) == ("db", 5432)


@pytest.fixture
def started(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Daemon, SimpleNamespace]]:
    """Both containers, started by testcontainers on the stand-in."""
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
    with docker_daemon(machine, ALL_IMAGES) as daemon:
        containers = [postgres_container(15432, "secret"), kafka_container(19092)]
        for container in containers:
            container.start()
        told = SimpleNamespace(postgres=daemon.created[0], kafka=daemon.created[1])
        yield daemon, told
        for container in containers:
            container.stop()
    assert daemon.started == daemon.removed == 2


def _environment(told: dict[str, Any]) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in told["Env"])


def test_containers_listen_on_this_machine_alone(started: tuple[Daemon, SimpleNamespace]) -> None:
    _, told = started

    assert told.postgres["Image"] == POSTGRES_IMAGE
    assert told.kafka["Image"] == KAFKA_IMAGE
    assert told.postgres["HostConfig"]["PortBindings"] == {"5432/tcp": [{"HostIp": "127.0.0.1", "HostPort": "15432"}]}
    assert told.kafka["HostConfig"]["PortBindings"] == {"19092/tcp": [{"HostIp": "127.0.0.1", "HostPort": "19092"}]}


def test_postgres_is_told_its_role_and_takes_as_many_connections_as_tests_open(
    started: tuple[Daemon, SimpleNamespace],
) -> None:
    _, told = started

    assert _environment(told.postgres) == {"POSTGRES_USER": "muster", "POSTGRES_PASSWORD": "secret"}
    assert "max_connections=300" in " ".join(told.postgres["Cmd"])


def test_kafka_is_told_everything_that_one_node_needs(started: tuple[Daemon, SimpleNamespace]) -> None:
    """As soon as one variable is set the image forgets its single-node settings, or transactions would hang."""
    _, told = started
    environment = _environment(told.kafka)
    one_node = re.compile("REPLICATION_FACTOR|MIN_ISR|PROCESS_ROLES|QUORUM|LISTENER|NODE_ID")
    of_compose = {name for name in service("kafka")["environment"] if one_node.search(name)}

    assert of_compose - {"KAFKA_DEFAULT_REPLICATION_FACTOR"} <= set(environment)
    assert {value for name, value in environment.items() if re.search("REPLICATION_FACTOR|MIN_ISR", name)} == {"1"}
    assert environment["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://127.0.0.1:19092"
