"""The chart as Helm renders it, with the values of production and with its defaults: kept, so that tests need no Helm.

test_helm.py has Helm render both anew and compares; with `RENDER=1` it writes the files. Their first line says of
which chart, so that a chart that was changed since is noticed without Helm.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.chart import digest
from tests.unit.deploy.files import CHART

PRODUCTION: Final = Path(__file__).with_name("rendered.yaml")
#: The default values, with what nobody can know (NEEDED).
DEFAULTS: Final = Path(__file__).with_name("rendered_defaults.yaml")
#: What has no default.
NEEDED: Final = {
    "POSTGRES_SERVER": "db",
    "KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
    "AUTH_ISSUER": "https://issuer.example.com",
    "AUTH_AUDIENCE": "muster",
}
VALUES: Final = CHART.parent / "examples" / "production.yaml"
_HEAD: Final = "# Made by test_helm.py with RENDER=1, of the chart whose files' SHA-256 is "


def write(file: Path, objects: Iterable[dict[str, Any]]) -> None:
    """Keep the objects that Helm has rendered."""
    file.write_text(f"{_HEAD}{digest(CHART)}\n{yaml.safe_dump_all(ordered(objects), width=120)}", encoding="utf-8")


def kept_digest(file: Path) -> str:
    """The digest of the chart that was rendered."""
    return file.read_text(encoding="utf-8").partition("\n")[0].removeprefix(_HEAD)


@cache
def objects(file: Path = PRODUCTION) -> list[dict[str, Any]]:
    """The objects that were kept."""
    return list(yaml.load_all(file.read_text(encoding="utf-8"), yaml.CSafeLoader))


def ordered(objects: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """In an order of ours: Helm's is another in other versions."""
    return sorted(objects, key=lambda each: (each["kind"], each["metadata"]["name"]))


def of_kind(kind: str, file: Path = PRODUCTION) -> dict[str, dict[str, Any]]:
    """The objects of a kind by their name, without the release's before it."""
    return {each["metadata"]["name"].removeprefix("muster-"): each for each in objects(file) if each["kind"] == kind}
