"""What `helm lint` and `helm template` find, by Helm as a library: the wheel helm-python-sdk, which has Helm 4 in it.

Helm's own command line, of another version, is tried by `make test-deploy`. With `RENDER=1` what is rendered is kept.
"""

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.deploy.files import CHART
from tests.unit.deploy.rendered import DEFAULTS, NEEDED, PRODUCTION, VALUES, objects, ordered, write

if sys.platform == "linux" and platform.machine() != "x86_64":
    pytest.skip("there is no wheel of Helm for this machine: make test-deploy builds it", allow_module_level=True)

import helm_python as helm

#: Beyond Helm's advice ("icon is recommended").
WARNING = 2
PRODUCTION_VALUES: dict[str, Any] = yaml.safe_load(VALUES.read_text(encoding="utf-8"))


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The objects that Helm makes of the chart."""
    with helm.Chart.load(CHART) as chart:
        manifests = chart.render(values, name="muster", namespace="prod")
    texts = (text for name, text in manifests.items() if name.endswith(".yaml"))
    return ordered(each for text in texts for each in yaml.load_all(text, yaml.CSafeLoader) if each)


def test_helm_finds_nothing_wrong() -> None:
    report = helm.lint(CHART, PRODUCTION_VALUES, strict=True)

    assert report["total_charts_linted"] == 1
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] >= WARNING] == []


def test_helm_finds_what_is_wrong(tmp_path: Path) -> None:
    chart = Path(shutil.copytree(CHART, tmp_path / "muster"))
    (chart / "templates" / "broken.yaml").write_text("{{ unknown }}", encoding="utf-8")

    report = helm.lint(chart, PRODUCTION_VALUES, strict=True)

    assert "unknown" in str(report["messages"])
    assert report["errors"]


@pytest.mark.parametrize(
    ("file", "values"),
    [(PRODUCTION, PRODUCTION_VALUES), (DEFAULTS, {"settings": NEEDED})],
    ids=["production", "defaults"],
)
def test_what_is_kept_is_what_helm_renders(file: Path, values: dict[str, Any]) -> None:
    found = rendered(values)
    if os.environ.get("RENDER"):
        write(file, found)
        objects.cache_clear()

    assert objects(file) == found
