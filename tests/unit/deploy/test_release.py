"""A release is of what is committed, has one version everywhere, and a dated section of the changelog."""

import shutil
import subprocess
from datetime import date
from pathlib import Path

import pytest

from deploy.chart import digest
from deploy.release import CHANGELOG, PLACES, RENDERED, CannotReleaseError, current, require_ready, write
from tests.unit.docs.pages import ROOT

NEXT = "97.0.1"
DAY = date(2026, 12, 24)


def git(checkout: Path, *arguments: str) -> None:
    author = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    subprocess.run(["git", *author, *arguments], cwd=checkout, check=True, capture_output=True, timeout=60)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with the files that a release changes, as they are here."""
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy", symlinks=True)
    for name in {CHANGELOG, *(place for place, _ in PLACES)}:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    changelog = tmp_path / CHANGELOG
    changelog.write_text(changelog.read_text().replace("## [Unreleased]\n", "## [Unreleased]\n\n- Something.\n", 1))
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    return tmp_path


def commit(checkout: Path) -> None:
    git(checkout, "add", "--all", "--force")
    git(checkout, "commit", "--quiet", "--message", "all")


def test_the_version_is_one_in_all_places_afterwards(checkout: Path) -> None:
    was = current(checkout)
    require_ready(checkout, NEXT)

    write(checkout, NEXT, DAY)

    assert current(checkout) == NEXT
    for place, text in PLACES:
        written = (checkout / place).read_text()
        assert text.replace("VERSION", NEXT) in written, place
        assert text.replace("VERSION", was) not in written, place
    for name in RENDERED:
        first, _, _ = (checkout / name).read_text().partition("\n")
        assert first.endswith(digest(checkout / "deploy" / "helm" / "muster"))
    assert f"## [Unreleased]\n\n## [{NEXT}] - 2026-12-24\n\n- Something.\n" in (checkout / CHANGELOG).read_text()


def test_what_is_released_can_be_released_again_only_under_another_version(checkout: Path) -> None:
    write(checkout, NEXT, DAY)
    commit(checkout)
    git(checkout, "tag", f"v{NEXT}")

    for version, said in (
        (NEXT, f"a tag v{NEXT} already"),
        ("97.0.0", f"older than {NEXT}"),
        ("97.0.2", "nothing below"),
    ):
        with pytest.raises(CannotReleaseError, match=said):
            require_ready(checkout, version)


@pytest.mark.parametrize("version", ["", "1", "1.2", "v1.2.3", "1.2.3rc1", "01.2.3"])
def test_a_version_is_three_numbers(checkout: Path, version: str) -> None:
    with pytest.raises(CannotReleaseError, match="give three numbers"):
        require_ready(checkout, version)


def test_what_is_not_committed_is_not_released(checkout: Path) -> None:
    (checkout / "new.py").touch()

    with pytest.raises(CannotReleaseError, match=r"commit or stash them:\n.*new\.py"):
        require_ready(checkout, NEXT)


def test_a_place_that_lost_its_version_is_named(checkout: Path) -> None:
    (checkout / "docker-compose.yml").write_text("image: muster:latest")
    commit(checkout)

    with pytest.raises(CannotReleaseError, match=r"docker-compose\.yml does not say"):
        require_ready(checkout, NEXT)
