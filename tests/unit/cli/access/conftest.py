"""A shell that names no issuer and no token, and what looks like a stack that runs in its folder."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from local_stack import stack_file
from local_stack.folder import owned_folder
from local_stack.issuer import init_issuer
from local_stack.stack_file import Stack
from tests.settings_classes import is_ours

RunStack = Callable[..., None]
Muster = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a stack that has an issuer; also the folder of the shell."""
    for name in filter(is_ours, list(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("MUSTER_FOLDER", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    init_issuer(tmp_path / "issuer")
    return tmp_path


@pytest.fixture
def muster() -> Muster:
    """Runs a command here; gives its exit code, output, and errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, list(arguments))
        return result.exit_code, result.stdout, result.stderr

    return run


@pytest.fixture
def run_stack(folder: Path) -> Iterator[RunStack]:
    """Makes it look as if a stack with these settings ran on the folder; this process owns it."""
    with owned_folder(folder):

        def run(**settings: str) -> None:
            own = {
                "AUTH_JWKS_FILE": str(folder / "issuer" / "jwks.json"),
                "AUTH_AUDIENCE": "muster",
                "COMMAND_API_PORT": "8000",
                "QUERY_API_PORT": "8001",
            }
            owner = int((folder / "lock").read_text())
            stack_file.write(Stack(owner, "", "", str(folder), own | settings, []), "")

        yield run
