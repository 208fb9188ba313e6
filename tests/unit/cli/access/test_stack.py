"""Whose tokens the local stack's APIs are told to trust, and what the person at the terminal is told to paste."""

import shlex
import subprocess
from pathlib import Path

import pytest

from cli.stack.settings import ALL_PARTS, Ports, stack_settings
from cli.stack.suggestions import suggestions
from local_stack import stack_file
from local_stack.issuer import open_issuer
from local_stack.issuer_files import NoIssuerError
from local_stack.postgres.server import ServerAddress
from tests.unit.cli.access.conftest import RunStack

PORTS = Ports(1, 2, 8000, 8001, 8002, 8003, 8004, 8005, 8009, 8010, 8011, 8012)
OWN_ISSUER = {"AUTH_ISSUER": "muster-local", "AUTH_AUDIENCE": "muster"}
FOREIGN = {"AUTH_ISSUER": "https://login.example.com", "AUTH_AUDIENCE": "users"}


def settings(folder: Path) -> dict[str, str]:
    return stack_settings(folder, PORTS, ServerAddress("127.0.0.1", 1, "muster", "secret"))


def access(folder: Path) -> dict[str, str]:
    return {name: value for name, value in settings(folder).items() if name.startswith("AUTH_")}


def test_the_stack_makes_an_issuer_once_and_trusts_it(folder: Path) -> None:
    first = access(folder / "new")
    key = open_issuer(folder / "new" / "issuer").key_id

    assert first == OWN_ISSUER | {"AUTH_JWKS_FILE": str(folder / "new" / "issuer" / "jwks.json")}
    assert access(folder / "new") == first
    assert open_issuer(folder / "new" / "issuer").key_id == key


@pytest.mark.parametrize("given", [{"AUTH_DISABLED": "1"}, FOREIGN, {"AUTH_ISSUER": "https://login.example.com"}])
def test_where_the_environment_answers_the_stack_says_nothing_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    assert access(folder / "new") == given
    assert not (folder / "new" / "issuer").exists()


@pytest.mark.parametrize(
    "given",
    [
        {"AUTH_AUDIENCE": "users"},
        {"AUTH_ALGORITHMS": "EdDSA"},
        {"AUTH_DISABLED": "false"},
        {"AUTH_JWKS_URL": "http://127.0.0.1:1/keys"},
        {"AUTH_JWKS_FILE": "/etc/muster/jwks.json"},
    ],
)
def test_what_the_environment_sets_goes_before_what_the_stack_chooses(
    folder: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    own_keys = {"AUTH_JWKS_FILE": str(folder / "issuer" / "jwks.json")}

    assert access(folder) == OWN_ISSUER | ({} if "AUTH_JWKS_URL" in given else own_keys) | given


def test_a_key_file_of_the_environment_is_found_from_the_folder_of_the_processes(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTH_JWKS_FILE", "keys/jwks.json")

    assert access(folder / ".local")["AUTH_JWKS_FILE"] == str(folder / "keys" / "jwks.json")


def test_secrets_and_addresses_of_the_environment_go_before_the_stacks(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = {"CURSOR_KEYS": "k9:x", "IDEMPOTENCY_SECRET": "y" * 32, "PUBLIC_QUERY_URL": "https://users.example.com"}
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)

    assert chosen.items() <= settings(folder).items()


def test_an_issuer_that_is_damaged_keeps_the_stack_from_starting_with_the_way_out(folder: Path) -> None:
    (folder / "issuer" / "issuer.json").write_text("damaged")

    with pytest.raises(NoIssuerError, match="move the folder away"):
        settings(folder)


def pasted(folder: Path) -> list[str]:
    return [command for _, command in suggestions(folder, settings(folder), ALL_PARTS)]


def test_the_lines_to_paste_make_a_token_first_and_send_it(folder: Path) -> None:
    token, *curls, demo = pasted(folder)

    assert token.startswith(f"TOKEN=$(MUSTER_FOLDER={folder} ")
    assert token.endswith("muster token)")
    assert all(' -H "Authorization: Bearer $TOKEN"' in line for line in curls)
    assert "TOKEN" not in demo


def test_the_token_to_paste_is_for_the_audience_of_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTH_AUDIENCE", "my users")

    assert pasted(folder)[0].endswith("muster token --audience 'my users')")


def test_the_lines_of_an_open_stack_have_no_token(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_DISABLED", "true")
    lines = pasted(folder)

    assert len(lines) == 3
    assert "TOKEN" not in "".join(lines)


def test_the_lines_of_a_stack_with_another_issuer_ask_for_its_token(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in FOREIGN.items():
        monkeypatch.setenv(name, value)
    [(what, line), *_, (_, demo)] = suggestions(folder, settings(folder), ALL_PARTS)

    assert FOREIGN["AUTH_ISSUER"] in what
    assert line == "TOKEN=..."
    assert ' MUSTER_TOKEN="$TOKEN" ' in f" {demo}"


def test_the_file_of_variables_can_be_read_by_a_shell(folder: Path, run_stack: RunStack) -> None:
    values = {"AUTH_ISSUER": "https://a b'c;$(false)", "COMMAND_API_PORT": "8000"}
    run_stack(**values)
    file = shlex.quote(str(folder / stack_file.ENVIRONMENT_FILE))
    script = f"set -aeu; . {file}; exec printenv {' '.join(values)}"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == list(values.values())
    assert "COMMAND_API_PORT=8000\n" in (folder / stack_file.ENVIRONMENT_FILE).read_text()
