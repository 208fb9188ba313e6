"""What somebody sees who makes a mistake: one clear message, the right exit code, nothing half-started."""

import socket
from pathlib import Path

import pytest

from tests.acceptance.stack import Stack, clean_environment, run_muster


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (
            ["serve", "command"],
            ["COMMAND_POSTGRES_USER", "COMMAND_POSTGRES_DB", "IDEMPOTENCY_SECRET", "CREDENTIALS_SECRETS"],
        ),
        (["serve", "query"], ["QUERY_POSTGRES_USER", "QUERY_POSTGRES_DB", "CURSOR_KEYS"]),
        (["relay"], ["RELAY_POSTGRES_PASSWORD (or COMMAND_POSTGRES_PASSWORD, ", "KAFKA_BOOTSTRAP_SERVERS"]),
        (["project"], ["QUERY_POSTGRES_SERVER", "KAFKA_BOOTSTRAP_SERVERS"]),
        (["migrate", "all"], ["OWNER_POSTGRES_USER (or COMMAND_POSTGRES_USER, "]),
        (["topics"], ["KAFKA_BOOTSTRAP_SERVERS"]),
    ],
    ids=" ".join,
)
async def test_missing_settings_are_named_one_a_line_with_exit_code_2(
    tmp_path: Path, arguments: list[str], variables: list[str]
) -> None:
    code, out, err = await run_muster(*arguments, environment=clean_environment(), folder=tmp_path)

    assert (code, out) == (2, "")
    assert "Traceback" not in err
    for variable in variables:
        [line] = [line for line in err.splitlines() if line.startswith(variable)]
        assert "is missing; for example" in line


async def test_a_bad_setting_says_what_is_wrong_and_never_repeats_the_value(tmp_path: Path) -> None:
    environment = clean_environment() | {
        "COMMAND_POSTGRES_PORT": "eighty",
        "POSTGRES_USER": "u",
        "POSTGRES_PASSWORD": "hunter2",
        "POSTGRES_SERVER": "127.0.0.1",
        "COMMAND_POSTGRES_DB": "d",
        "IDEMPOTENCY_SECRET": "short-secret",
    }
    code, _, err = await run_muster("serve", "command", environment=environment, folder=tmp_path)

    assert code == 2
    assert "COMMAND_POSTGRES_PORT (or POSTGRES_PORT) is wrong" in err
    assert "IDEMPOTENCY_SECRET is wrong" in err
    assert "short-secret" not in err
    assert "hunter2" not in err


@pytest.mark.parametrize("what", [["serve", "command"], ["serve", "query"], ["relay"], ["project"]], ids=" ".join)
async def test_a_taken_port_is_one_sentence(tmp_path: Path, what: list[str]) -> None:
    environment = clean_environment() | {
        "POSTGRES_USER": "u",
        "POSTGRES_PASSWORD": "p",
        "POSTGRES_SERVER": "127.0.0.1",
        "COMMAND_POSTGRES_DB": "c",
        "QUERY_POSTGRES_DB": "q",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "IDEMPOTENCY_SECRET": "x" * 32,
        "CREDENTIALS_SECRETS": "x" * 32,
        "CURSOR_KEYS": "k1:" + "A" * 43 + "=",
        "AUTH_DISABLED": "true",
    }
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        code, _, err = await run_muster(*what, "--port", port, environment=environment, folder=tmp_path)

    assert code == 1
    assert f"Cannot listen on 127.0.0.1:{port}" in err
    assert "--port" in err
    assert "Traceback" not in err


async def test_up_refuses_a_taken_port_before_anything_is_started(tmp_path: Path) -> None:
    stack = Stack.on(tmp_path / ".local")
    with socket.create_server(("127.0.0.1", stack.ports["kafka"])):
        code, out, err = await run_muster("up", *stack.options, environment=clean_environment(), folder=tmp_path)

    assert code == 1
    said = " ".join((out + err).split())
    assert f"Port {stack.ports['kafka']} is taken by" in said
    assert "--kafka-port" in said
    assert not (tmp_path / ".local" / "postgres").exists()
    assert not (tmp_path / ".local" / "kafka").exists()


async def test_the_demo_without_a_stack_says_how_to_start_one(tmp_path: Path) -> None:
    environment = clean_environment() | {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "PUBLIC_COMMAND_URL": "http://127.0.0.1:1",
    }
    code, _, err = await run_muster("demo", environment=environment, folder=tmp_path)

    assert code == 1
    assert "make up" in err
    assert "Traceback" not in err


async def test_help_lists_every_command_and_an_unknown_one_is_wrong_use(tmp_path: Path) -> None:
    code, out, _ = await run_muster("--help", environment=clean_environment(), folder=tmp_path)
    unknown, _, err = await run_muster("fly", environment=clean_environment(), folder=tmp_path)

    assert code == 0
    for command in ("up", "demo", "migrate", "serve", "relay", "project", "topics", "doctor"):
        assert command in out
    assert unknown == 2
    assert "fly" in err
