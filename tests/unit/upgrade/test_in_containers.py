"""The walk in containers finds the guide's steps, and says what it lacks."""

import subprocess

import pytest

from tests.upgrade import in_containers


def test_the_guide_has_the_steps_that_are_walked() -> None:
    steps = in_containers.steps().splitlines()

    assert steps[0].startswith("git pull")
    assert any("migrate" in step for step in steps)
    assert any("up -d" in step and "--no-deps" in step for step in steps)


@pytest.mark.parametrize("lacking", in_containers.LACKS)
def test_what_is_lacking_is_said_and_no_api_is_told_of(
    lacking: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: tuple[str, ...], *, check: bool) -> None:
        assert check
        if command == lacking:
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(in_containers, "commit_of", lambda commit: commit)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("sys.argv", ["make upgrade-containers"])

    assert in_containers.main() == 2
    told = capsys.readouterr()
    assert told.err == f"NOTHING WAS UPGRADED: {in_containers.LACKS[lacking]}.\n"
    assert not told.out
