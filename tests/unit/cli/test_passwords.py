"""`muster passwords build`: a list becomes the file that the command API maps, or the line that is wrong is told."""

import json
from hashlib import sha1
from pathlib import Path

import pytest

from chassis.settings import load
from chassis.settings_error import SettingsError
from cli.main import COMMANDS, load_command
from command_api.passwords.blocklist import Blocklist
from command_api.settings import CommandApiSettings


def run(*arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as ended:
        load_command("passwords", COMMANDS["passwords"]).main(["build", *arguments])
    return ended.value.code


def test_a_list_of_passwords_and_hashes_becomes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "list.txt", tmp_path / "made"
    source.write_text(f"one of ours\n{sha1(b'another').hexdigest()}:12\nOne of ours\n")

    assert run(str(source), str(target)) == 0
    assert f"PASSWORD_BLOCKLIST_FILE={target}" in capsys.readouterr().out
    assert run(str(source), str(target), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"lines": 3, "entries": 2, "bytes": 32}
    with Blocklist.open(target) as blocklist:
        assert "ONE of ours" in blocklist
        assert "another" in blocklist


def test_a_wrong_line_is_told_by_its_number_and_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = tmp_path / "list.txt", tmp_path / "made"
    source.write_bytes(b"fine\nsecret caf\xe9\n")

    assert run(str(source), str(target)) == 1
    told = capsys.readouterr().err
    assert "line 2 is not UTF-8" in told
    assert "secret" not in told
    assert not target.exists()


def test_where_nothing_can_be_written_that_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = tmp_path / "list.txt", tmp_path / "nowhere" / "made"
    source.write_text("one\n")

    assert run(str(source), str(target)) == 1
    # The files in which it sorts have names that nobody knows.
    told = " ".join(capsys.readouterr().err.split())
    assert told == f"{target} cannot be made of {source}, and is as it was: No such file or directory"


@pytest.mark.parametrize(
    ("content", "why"), [(None, "cannot be read (No such file or directory)"), ("123456\n", "no block list")]
)
def test_a_process_does_not_start_with_a_file_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, why: str
) -> None:
    file = tmp_path / "list"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("PASSWORD_BLOCKLIST_FILE", str(file))

    with pytest.raises(SettingsError) as refused:
        load(CommandApiSettings)

    [line] = [line for line in refused.value.lines if "PASSWORD_BLOCKLIST_FILE" in line]
    assert why in line
    assert str(file) in line
