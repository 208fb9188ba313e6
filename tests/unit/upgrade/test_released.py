"""Where the history does not have the released version, nothing is upgraded, and that is said."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.docs.pages import ROOT
from tests.upgrade.released import NotBuiltError, commit_of, released

GIT_SECONDS = 60
RUN_SECONDS = 120


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A Person", "-c", "user.email=person@example.com", "-c", "commit.gpgsign=false")
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits, the first with a tag."""
    made = tmp_path / "repository"
    made.mkdir()
    git(made, "init", "--quiet")
    for message in ("first", "second"):
        git(made, "commit", "--quiet", "--allow-empty", "--message", message)
    git(made, "tag", "v1.0.0", "HEAD~1")
    return made


def test_a_release_is_named_by_commit_or_tag(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD~1")

    assert commit_of(first, repository) == commit_of("v1.0.0", repository) == first


def test_a_shallow_clone_says_how_to_get_the_history(repository: Path, tmp_path: Path) -> None:
    first, clone = git(repository, "rev-parse", "HEAD~1"), tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{repository}", str(clone))

    with pytest.raises(NotBuiltError, match="shallow clone: `git fetch --unshallow"):
        commit_of(first, clone)
    git(clone, "fetch", "--quiet", "--unshallow")
    assert commit_of(first, clone) == first


def test_another_history_is_not_called_shallow(repository: Path) -> None:
    with pytest.raises(NotBuiltError, match="is not in the history here; `git fetch --tags`"):
        commit_of("v9.9.9", repository)


def test_the_released_version_is_behind_this_one() -> None:
    git(ROOT, "merge-base", "--is-ancestor", commit_of(released()), "HEAD")


def test_an_upgrade_from_nothing_fails_and_says_so(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{ROOT}", str(clone))
    ended = subprocess.run(
        [sys.executable, "-m", "tests.upgrade"],
        cwd=clone, capture_output=True, text=True, check=False, timeout=RUN_SECONDS,
    )  # fmt: skip

    assert ended.returncode == 2, ended.stderr
    assert "NOTHING WAS UPGRADED" in ended.stderr
