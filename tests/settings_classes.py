"""Every setting there is, found in the code: for tests that must know all variables that a process may read."""

import pkgutil
from collections.abc import Iterator
from functools import cache
from importlib import import_module

from pydantic.fields import FieldInfo

from chassis.settings import Settings, aliases_of

PACKAGES = (
    *("chassis", "cli", "command_api", "console", "event_api", "events", "outbox", "projectors"),
    *("query_api", "read_model"),
)
#: Read without a settings class: by the programs themselves, by the tests, and by the PostgreSQL driver.
OTHER_PREFIXES = ("MUSTER_", "TEST_", "PG")


@cache
def fields() -> dict[str, FieldInfo]:
    """Every setting, by its first name."""
    _import_everything()
    found: dict[str, FieldInfo] = {}
    for kind in _classes():
        for field in kind.model_fields.values():
            # A process may make classes while it runs, of known fields (`muster doctor`); the first is the one written.
            found.setdefault(aliases_of(field)[0], field)
    return found


@cache
def names() -> dict[str, list[str]]:
    """All names of each setting by its first, in the order in which they go before one another."""
    found: dict[str, list[str]] = {}
    _import_everything()
    for kind in _classes():
        for first, *others in (aliases_of(field) for field in kind.model_fields.values()):
            known = found.setdefault(first, [first])
            # OPERATOR_POSTGRES_USER stands before those of either database; the shared name is the last.
            known[1:] = sorted({*known[1:], *others}, key=lambda name: (name.startswith("POSTGRES"), name))
    return found


@cache
def variables() -> frozenset[str]:
    """Every name that a setting can have in the environment."""
    return frozenset(alias for aliases in names().values() for alias in aliases)


def is_ours(variable: str) -> bool:
    """Whether a variable of the environment could change what a process of ours does."""
    return (
        variable.removesuffix("_FILE") in variables() or variable in variables() or variable.startswith(OTHER_PREFIXES)
    )


def _import_everything() -> None:
    """So that every class is known; Alembic's environments run when they are imported and have none."""
    for name in PACKAGES:
        package = import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if ".migrations" not in module.name:
                import_module(module.name)


def _classes(kind: type[Settings] = Settings) -> Iterator[type[Settings]]:
    for subclass in kind.__subclasses__():
        if subclass.__module__.startswith(PACKAGES):
            yield subclass
            yield from _classes(subclass)
