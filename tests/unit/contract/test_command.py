"""`python -m contract`: what it says, its exit codes, and that nothing broken is released."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chassis.settings import Kafka
from contract import __main__ as command
from contract import gate
from contract.gate import CORPUS, RELEASED
from contract.log import LogReport
from local_stack import stack_file
from local_stack.folder import owned_folder
from local_stack.stack_file import Stack
from tests.settings_classes import is_ours

Run = Callable[..., int]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["contract", *arguments])
        return command.main()

    return run


@pytest.fixture
def spoilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus in which a file has changed."""
    corpus = Path(shutil.copytree(CORPUS, tmp_path / "corpus"))
    (corpus / "muster.user.erased.v1.json").write_text("{}")
    monkeypatch.setattr(gate, "CORPUS", corpus)
    # What was changed cannot be read as a record either.
    monkeypatch.setattr(gate, "read_corpus", lambda _: [])


def test_it_is_a_program_that_says_whether_the_contract_is_kept() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "contract"], cwd=CORPUS.parents[1], capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "The contract is kept.\n"), done.stderr


@pytest.mark.usefixtures("spoilt")
@pytest.mark.parametrize("arguments", [(), ("--release",), ("--log", "users.events")])
def test_a_broken_contract_is_said_and_neither_released_nor_looked_for_on_a_log(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setattr(command, "read_log", lambda *_: pytest.fail("the log was read"))
    released = {path: path.read_bytes() for path in RELEASED.rglob("*") if path.is_file()}

    code = run(*arguments)

    said = capsys.readouterr()
    assert code == 1
    assert "muster.user.erased.v1.json: the file was changed" in said.err
    assert said.err.endswith("The contract is broken.\n")
    assert said.out == ""
    assert {path: path.read_bytes() for path in RELEASED.rglob("*") if path.is_file()} == released


def test_a_kept_contract_is_released_when_it_is_told_to(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    releases: list[None] = []
    monkeypatch.setattr(gate, "release", lambda: releases.append(None))

    assert run() == 0
    assert releases == []
    assert run("--release") == 0
    assert releases == [None]
    assert "Noted what this release promises." in capsys.readouterr().out


def test_wrong_use_and_settings_that_are_none_are_told_apart(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit) as ended:
        run("--logs")
    assert ended.value.code == 2

    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "TELNET")
    assert run("--log", "users.events") == 1
    assert "KAFKA_SECURITY_PROTOCOL" in capsys.readouterr().err


def test_a_log_that_cannot_be_read_leaves_the_contract_alone(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in filter(is_ours, list(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.setenv("MUSTER_FOLDER", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    assert run("--log", "users.events") == 1

    said = capsys.readouterr().err
    assert "users.events cannot be read: KAFKA_BOOTSTRAP_SERVERS is missing" in said
    assert "broken" not in said


def test_beside_a_running_stack_the_log_is_its_own(
    run: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def read(settings: Kafka, topic: str) -> LogReport:
        return LogReport(named=[f"{topic} of {settings.kafka_bootstrap_servers}"])

    monkeypatch.setattr(command, "read_log", read)
    for name in filter(is_ours, list(os.environ)):
        monkeypatch.delenv(name)
    # Noted by monkeypatch, so that what the command puts there is taken out again.
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "")
    monkeypatch.setenv("MUSTER_FOLDER", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with owned_folder(tmp_path):
        owner = int((tmp_path / "lock").read_text())
        settings = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:23600"}
        stack_file.write(Stack(owner, "", "", str(tmp_path), settings, []), "")

        assert run("--log", "users.events") == 1

    assert "users.events of 127.0.0.1:23600" in capsys.readouterr().err
