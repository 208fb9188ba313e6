"""`make release VERSION=…`: what is written before a release, and what must be so before anything is.

The version stands in many places, since each is read by somebody who reads no other: pip, Helm, a browser of images, a
person who copies a line. `PLACES` is all of them.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from deploy.chart import digest

ROOT: Final = Path(__file__).parents[1]
#: What Helm renders, as tests keep it: the versions in it are changed here, and test_helm.py has Helm agree.
RENDERED: Final = ("tests/unit/deploy/rendered.yaml", "tests/unit/deploy/rendered_defaults.yaml")
#: The files that name the version, and how; `VERSION` stands for it.
PLACES: Final = (
    ("pyproject.toml", 'version = "VERSION"'),
    ("chassis/__init__.py", '__version__ = "VERSION"'),
    ("Dockerfile", 'org.opencontainers.image.version="VERSION"'),
    ("docker-compose.yml", "image: muster:VERSION"),
    ("deploy/helm/muster/Chart.yaml", "version: VERSION"),
    ("deploy/helm/muster/Chart.yaml", "appVersion: VERSION"),
    ("README.md", "dist/muster-VERSION-py3-none-any.whl"),
    ("docs/how-to/keep-a-copy.md", "dist/muster_events-VERSION-py3-none-any.whl"),
    ("docs/how-to/run-in-containers.md", "muster:VERSION"),
    *(
        (name, text)
        for name in RENDERED
        for text in (
            "app.kubernetes.io/version: VERSION",
            "helm.sh/chart: muster-VERSION",
            "muster:VERSION",
        )
    ),
)
CHANGELOG: Final = "CHANGELOG.md"
_UNRELEASED: Final = "## [Unreleased]\n"
_VERSION: Final = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
_GIT_SECONDS: Final = 60


class CannotReleaseError(Exception):
    """Why nothing can be released now; the message says what to do."""


def current(root: Path) -> str:
    """The version that the checkout has."""
    found = re.search(rf'^version = "({_VERSION})"$', (root / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise CannotReleaseError('pyproject.toml has no version: it must have a line such as version = "1.2.3"')
    return found[1]


def require_ready(root: Path, version: str) -> None:
    """Refuse what would not be a release of what is committed.

    Raises:
        CannotReleaseError: it would not.
    """
    if not re.fullmatch(_VERSION, version):
        raise CannotReleaseError(f"VERSION={version} is no version: give three numbers, such as VERSION=1.2.3")
    was = current(root)
    if _numbers(version) < _numbers(was):
        raise CannotReleaseError(f"VERSION={version} is older than {was}, which is here: give a newer one")
    if changed := _git(root, "status", "--porcelain"):
        raise CannotReleaseError(f"the checkout has changes that are not committed; commit or stash them:\n{changed}")
    if _git(root, "tag", "--list", f"v{version}"):
        raise CannotReleaseError(f"there is a tag v{version} already: give a newer VERSION")
    if not _unreleased((root / CHANGELOG).read_text("utf-8")).strip():
        raise CannotReleaseError(f"{CHANGELOG} has nothing below {_UNRELEASED.strip()}: say there what is new")
    for place, text in PLACES:
        if text.replace("VERSION", was) not in (root / place).read_text("utf-8"):
            raise CannotReleaseError(
                f"{place} does not say {text.replace('VERSION', was)}: mend it, or PLACES in deploy/release.py"
            )


def write(root: Path, version: str, today: date) -> None:
    """Put the version everywhere, and give its section of the changelog a date."""
    was, chart = current(root), root / "deploy" / "helm" / "muster"
    of_chart = digest(chart)
    for place, text in PLACES:
        path = root / place
        written = re.compile(rf"(?<![\w.-]){re.escape(text.replace('VERSION', was))}(?![\w.])")
        new = text.replace("VERSION", version)
        path.write_text(written.sub(new, path.read_text("utf-8")), "utf-8")
    for name in RENDERED:
        kept = (root / name).read_text("utf-8")
        (root / name).write_text(kept.replace(of_chart, digest(chart), 1), "utf-8")
    changelog = root / CHANGELOG
    dated = f"{_UNRELEASED}\n## [{version}] - {today.isoformat()}\n"
    changelog.write_text(changelog.read_text("utf-8").replace(_UNRELEASED, dated, 1), "utf-8")


def _unreleased(changelog: str) -> str:
    """What the changelog says of the next release, without headings."""
    section = changelog.partition(_UNRELEASED)[2].partition("\n## [")[0]
    return re.sub(r"^#.*$", "", section, flags=re.MULTILINE)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _git(root: Path, *arguments: str) -> str:
    """What git says; `root` is a checkout."""
    answer = subprocess.run(  # noqa: S603 - no shell, and words of ours
        ["git", *arguments],  # noqa: S607 - the developer's own
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=_GIT_SECONDS,
    )
    return answer.stdout.strip()


def main() -> int:
    """The exit code: 0 done, 1 refused."""
    parser = argparse.ArgumentParser(prog="make release")
    parser.add_argument("step", choices=["require-ready", "write"])
    parser.add_argument("version")
    options = parser.parse_args()
    try:
        require_ready(ROOT, options.version)
    except CannotReleaseError as error:
        sys.stderr.write(f"NOTHING WAS RELEASED: {error}\n")
        return 1
    if options.step == "write":
        write(ROOT, options.version, datetime.now(UTC).date())
    return 0


if __name__ == "__main__":
    sys.exit(main())
