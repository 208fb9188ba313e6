"""Three brokers and a standby are asked for by options, and every process is told of all of them."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from cli.stack import up
from cli.stack.background import _arguments
from cli.stack.foreground import UpOptions
from cli.stack.settings import server_settings
from local_stack.servers import AS_BEFORE, ONE_OF_EACH, ServerOptions, Servers, ServerSet

COPIES = ("TOPIC_REPLICATION_FACTOR", "TOPIC_MIN_INSYNC_REPLICAS")
READS = "QUERY_POSTGRES_TARGET_SESSION_ATTRS"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[UpOptions]:
    """What the command asks for, each time."""
    options: list[UpOptions] = []

    def remember(these: UpOptions, _: object) -> int:
        options.append(these)
        return 0

    monkeypatch.setattr(up, "run_stack", remember)
    return options


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], AS_BEFORE),
        (["--brokers", "3", "--standby", "--synchronous"], ServerOptions(3, standby=True, synchronous=True)),
        (["--no-standby", "--no-synchronous"], ServerOptions(standby=False, synchronous=False)),
    ],
)
def test_options_are_taken_and_handed_on_to_a_stack_behind(
    asked: list[UpOptions], arguments: list[str], expected: ServerOptions
) -> None:
    assert CliRunner().invoke(app, ["up", *arguments]).exit_code == 0
    assert asked[0].servers == expected

    assert CliRunner().invoke(app, ["up", *_arguments(asked[0])]).exit_code == 0
    assert asked[1] == asked[0]


def test_two_brokers_are_refused(asked: list[UpOptions]) -> None:
    refused = CliRunner().invoke(app, ["up", "--brokers", "2"])

    assert (refused.exit_code, "takes 1 or 3" in refused.output) == (2, True)
    assert asked == []


def servers(folder: Path, chosen: ServerSet) -> Servers:
    return Servers(folder, chosen, postgres_port=5433, kafka_port=9092, logs=folder, principals=("relay",))


def test_processes_are_told_of_every_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*COPIES, READS, READS.removeprefix("QUERY_")):
        monkeypatch.delenv(name, raising=False)

    told = server_settings(servers(tmp_path, ServerSet(brokers=3, standby=True)))

    assert told["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:9092,127.0.0.1:9093,127.0.0.1:9094"
    assert told["POSTGRES_SERVER"] == "127.0.0.1:5433,127.0.0.1:5434"
    assert [told[name] for name in (READS, *COPIES)] == ["prefer-standby", "3", "2"]


def test_the_environment_says_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTGRES_TARGET_SESSION_ATTRS", "read-write")
    monkeypatch.setenv("TOPIC_MIN_INSYNC_REPLICAS", "1")

    told = server_settings(servers(tmp_path, ServerSet(brokers=3, standby=True)))

    assert [told[name] for name in (READS, *COPIES)] == ["read-write", "3", "1"]


def test_one_of_each_is_told_as_ever(tmp_path: Path) -> None:
    assert not {"POSTGRES_SERVER", READS, *COPIES} & server_settings(servers(tmp_path, ONE_OF_EACH)).keys()
