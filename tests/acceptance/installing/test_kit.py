"""The subscribers' kit, installed alone: pydantic is all that it needs, and it reads whatever was ever published."""

import json
import shutil
import sys
from importlib.metadata import Distribution, distribution, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.acceptance.installing.installation import ROOT, UV, run

PROGRAM = """
import json, sys
from base64 import b64decode
from importlib.metadata import distributions
from importlib.resources import files
from muster_events import Unknown, decode

def content(text):
    return None if text is None else b64decode(text)

read = {}
for path in files("muster_events").joinpath("corpus").iterdir():
    if path.name.endswith(".json"):
        record = json.loads(path.read_text())
        headers = [(name, content(value)) for name, value in record["headers"]]
        read[path.name] = type(decode(content(record["key"]), headers, content(record["value"]))).__name__
print(json.dumps({
    "read": read,
    "installed": sorted(each.name for each in distributions()),
    "ours": [name for name in sys.modules if name.partition(".")[0] in ("events", "chassis", "aiokafka")],
    "typed": files("muster_events").joinpath("py.typed").is_file(),
}))
"""


def _closure(name: str) -> dict[str, Distribution]:
    """A distribution and all that it needs here."""
    found = {name: distribution(name)}
    for text in requires(name) or ():
        needed = Requirement(text)
        if needed.marker is None or needed.marker.evaluate({"extra": ""}):
            found |= _closure(needed.name)
    return found


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the kit."""
    folder = tmp_path_factory.mktemp("kit-dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, folder=ROOT / "kit")
    [wheel] = folder.iterdir()
    return wheel


def test_the_wheel_has_musters_version_and_needs_pydantic_alone(kit: Path) -> None:
    assert kit.name == f"muster_events-{version('muster')}-py3-none-any.whl"


def test_installed_with_pydantic_alone_it_reads_the_corpus(kit: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    run(UV, "venv", "-q", "--python", sys.executable, environment, folder=tmp_path)
    [packages] = environment.glob("lib/python*/site-packages")
    needed = _closure("pydantic")
    for each in needed.values():
        for file in each.files or ():
            # Programs of the command line are not asked for.
            if ".." not in file.parts and "__pycache__" not in file.parts:
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file.locate(), packages / file)
    run(UV, "pip", "install", "-q", "--offline", "--python", environment, kit, folder=tmp_path)

    printed = json.loads(run(environment / "bin" / "python", "-c", PROGRAM, folder=tmp_path))

    assert printed["installed"] == sorted([*(each.name for each in needed.values()), "muster_events"])
    assert printed["ours"] == []
    assert printed["typed"]
    assert set(printed["read"]) == {path.name for path in (ROOT / "events" / "corpus").glob("*.json")}
    assert set(printed["read"].values()) == {"UserEvent", "Erased"}
