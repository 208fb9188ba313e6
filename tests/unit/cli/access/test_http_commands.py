"""What the commands that speak HTTP refuse before they ask anybody: no address, or a token that is none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.access.conftest import Muster

ADDRESS = {"PUBLIC_COMMAND_URL": "http://127.0.0.1:1", "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}


@pytest.fixture(params=["demo", "import"])
def command(request: pytest.FixtureRequest, folder: Path) -> list[str]:
    """A command that speaks HTTP, with what it needs."""
    users = folder / "users.ndjson"
    users.write_text('{"email": "ada@example.com", "username": "ada"}\n')
    return [request.param, *([str(users)] if request.param == "import" else [])]


def test_without_an_address_and_without_a_stack_it_refuses(command: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *command],
        env=os.environ | {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr.splitlines()[0]
        == "PUBLIC_COMMAND_URL is missing; for example PUBLIC_COMMAND_URL=http://127.0.0.1:8000"
    )


@pytest.mark.parametrize("text", [" \n", "Bearer a.b.c", "a b", "a\r\nX-Other: 1", "ä"])
def test_what_is_no_token_is_one_sentence_that_does_not_repeat_it(
    command: list[str], muster: Muster, monkeypatch: pytest.MonkeyPatch, folder: Path, text: str
) -> None:
    (folder / "token").write_text(text)
    for variable, value in {"MUSTER_TOKEN_FILE": str(folder / "token"), "MUSTER_TOKEN": text}.items():
        for name, each in (ADDRESS | {variable: value}).items():
            monkeypatch.setenv(name, each)
        code, out, err = muster(*command)

        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"{variable} ")
        assert "holds no token: " in err
        assert not text.strip() or text not in err
    assert not list(folder.glob("users.ndjson.*"))


@pytest.mark.parametrize("make", ["absent", "folder", "bytes"])
def test_a_token_file_that_cannot_be_read_is_one_sentence(
    command: list[str], muster: Muster, monkeypatch: pytest.MonkeyPatch, folder: Path, make: str
) -> None:
    file = folder / "token"
    if make == "folder":
        file.mkdir()
    elif make == "bytes":
        file.write_bytes(b"\xff")
    for name, value in (ADDRESS | {"MUSTER_TOKEN_FILE": str(file)}).items():
        monkeypatch.setenv(name, value)
    code, _, err = muster(*command)

    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"MUSTER_TOKEN_FILE names {file}, which ")


def test_they_work_where_the_local_stacks_packages_are_not_installed() -> None:
    program = (
        "import sys\nsys.modules['psutil'] = None\n"
        "import cli.importing.command, cli.demo, cli.access.issuer\n"
        "from cli.access.bearer import Bearer\n"
        "import httpx\nassert Bearer().token_for(httpx.URL('http://127.0.0.1:8000')) is None\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
