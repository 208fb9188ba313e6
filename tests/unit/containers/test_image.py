"""The Dockerfile is made from the locked packages, for the versions that we say we support, and runs as nobody."""

import fnmatch
import json
import re
from pathlib import Path

from chassis import __version__
from cli.processes.probe import PORTS
from command_api.settings import CommandApiSettings
from console.settings import ConsoleSettings
from event_api.settings import EventApiSettings
from outbox.settings import RelaySettings
from projectors.settings import ProjectorSettings
from query_api.settings import QueryApiSettings
from tests.unit.containers.files import ROOT, instructions, of_kind, project, resolve


def _base_images() -> list[str]:
    """Each stage's; the arguments ahead of the stages have their defaults."""
    defaults = dict(text.split("=", 1) for text in of_kind("ARG") if "=" in text)
    return [str(resolve(text.partition(" ")[0], defaults)) for text in of_kind("FROM")]


def test_both_stages_use_one_python_which_is_a_supported_one() -> None:
    [image] = set(_base_images())
    version = re.fullmatch(r"python:(3\.\d+)-slim", image)

    assert len(_base_images()) == 2
    assert version is not None
    assert f"Programming Language :: Python :: {version[1]}" in project()["project"]["classifiers"]


def test_the_label_names_the_version() -> None:
    [labels] = of_kind("LABEL")

    assert f'org.opencontainers.image.version="{project()["project"]["version"]}"' in labels
    assert project()["project"]["version"] == __version__


def test_packages_come_from_locks_that_are_there_with_hashes_and_as_wheels() -> None:
    runs = " && ".join(of_kind("RUN"))
    locks = re.findall(r"-r (\S+)", runs)

    assert set(locks) == {f"requirements/{name}.txt" for name in ("audit", "bootstrap", "service")}
    for install in [step for step in runs.split("&&") if "-r " in step]:
        assert "--require-hashes" in install
        assert "--only-binary :all:" in install
    for lock in locks:
        text = (ROOT / lock).read_text(encoding="utf-8")
        names = re.findall(r"^[a-z0-9][\w.\[\],-]*==", text, re.MULTILINE)
        assert names
        assert text.count("--hash=sha256:") >= len(names)


def test_the_process_gets_signals_itself_and_is_not_root() -> None:
    after = [word for word, _ in instructions()][-6:]

    assert json.loads(of_kind("ENTRYPOINT")[0]) == ["muster"], "the form without a shell"
    assert of_kind("STOPSIGNAL") == ["SIGTERM"]
    [user] = of_kind("USER")
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", user), "numbers, so that an orchestrator can see it"
    assert "USER" in after
    assert not {"RUN", "COPY", "ADD"} & set(after), "nothing is done to the image as that user"


def test_the_health_check_asks_on_the_inner_ports_that_the_settings_say() -> None:
    [check] = of_kind("HEALTHCHECK")
    apis = (CommandApiSettings, QueryApiSettings, EventApiSettings)
    classes = (*apis, ConsoleSettings, RelaySettings, ProjectorSettings)
    wanted = {
        str(field.validation_alias): field.default
        for kind in classes
        for field in kind.model_fields.values()
        if re.search("_(OPS|HTTP)_PORT$", str(field.validation_alias))
    }

    assert json.loads(check.partition("CMD ")[2]) == ["python", "-m", "cli.processes.probe"]
    assert wanted == PORTS


def _sent(path: str, rules: list[str]) -> bool:
    """Whether a file reaches the engine: the last rule that matches it, or a folder above it, decides."""
    sent = True
    parts = [str(Path(*Path(path).parts[: depth + 1])) for depth in range(len(Path(path).parts))]
    for rule in rules:
        pattern = rule.removeprefix("!").removeprefix("**/")
        names = [part if "**/" not in rule else Path(part).name for part in parts]
        if any(fnmatch.fnmatchcase(name, pattern) for name in names):
            sent = rule.startswith("!")
    return sent


def test_the_engine_is_sent_what_the_wheel_is_made_of_and_nothing_else() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    packages = project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    wanted = {*packages, "hatch_build.py", "pyproject.toml", "README.md", "LICENSE", "requirements"}

    assert {path.name for path in ROOT.iterdir() if _sent(f"{path.name}/x" if path.is_dir() else path.name, rules)} | {
        "requirements"
    } == wanted
    assert _sent("chassis/settings.py", rules)
    assert _sent("local_stack/kafka/jars.txt", rules)
    for path in (".env", ".git/config", ".local/x", "requirements/dev.txt", "chassis/__pycache__/x.cpython-311.pyc"):
        assert not _sent(path, rules)
