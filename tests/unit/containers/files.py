"""What the container files say, parsed: the tests compare it with the code."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
#: `${NAME}`, `${NAME:-default}`, `${NAME-default if absent}`, `${NAME:?message}` and `${NAME:+text if given}`;
#: a default or a text may hold a reference.
REFERENCE = re.compile(r"\$\{([A-Z_]+)(?:(:?)([-?+])((?:[^{}]|\{[^{}]*\})*))?\}")


def compose() -> dict[str, Any]:
    """docker-compose.yml with its merges done and its references as they are written."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return document


def service(name: str) -> dict[str, Any]:
    """One service of it."""
    found: dict[str, Any] = compose()["services"][name]
    return found


def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, continued lines joined."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def of_kind(kind: str) -> list[str]:
    """What follows each instruction of one kind."""
    return [rest for word, rest in instructions() if word == kind]


def resolve(value: object, environment: dict[str, str]) -> str | None:
    """A value as the engine hands it to a container: None, absent, where it has no value and the environment none.

    Raises:
        KeyError: a variable that the file requires is missing.
    """

    def replace(found: re.Match[str]) -> str:
        name, colon, kind, rest = found.groups()
        if kind == "+":
            return str(resolve(rest, environment)) if environment.get(name) else ""
        if environment.get(name) or (kind == "-" and not colon and name in environment):
            return environment[name]
        if kind == "?":
            raise KeyError(f"{name} {rest}")
        return str(resolve(rest or "", environment))

    return REFERENCE.sub(replace, str(value)) if value is not None else None


def environment_of(name: str, environment: dict[str, str], secrets: Path = Path("/secrets")) -> dict[str, str]:
    """The whole environment of one service, given what .env and the shell have, and where its folder of secrets is."""
    written = service(name)["environment"]
    values = {key: environment.get(key) for key in written} | {
        key: resolve(value, environment) for key, value in written.items() if value is not None
    }
    return {key: value.replace("/secrets/", f"{secrets}/") for key, value in values.items() if value is not None}
