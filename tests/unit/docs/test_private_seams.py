"""Whoever raises a library's version finds every private part of it that the code relies on in one table."""

import ast
import inspect
import re
import sys
import tomllib
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from tests.unit.docs.pages import ROOT, code_words, table_rows

PAGE = ROOT / "docs" / "decisions" / "0017-private-seams.md"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
#: Submodules that their libraries document; any other that is imported needs a row. A library is public as a whole
#: where all it has is documented by submodule.
PUBLIC = re.compile(
    r"aiokafka\.(admin(\.config_resource)?|errors)|alembic\.(config|runtime\.migration|script)|argon2\.exceptions|"
    r"cryptography\..*|fastapi\.(exceptions|routing)|faststream\.(kafka|security)|jgo\.maven|jwt\.algorithms|"
    r"prometheus_client\.(core|multiprocess|parser|registry)|pydantic\.(fields|json_schema)|"
    r"rich\.(console|markup|progress|progress_bar|table|text)|"
    r"sqlalchemy\.(dialects(\.postgresql\.asyncpg)?|exc|ext\.asyncio|pool|schema|sql\.(dml|expression))|"
    r"starlette\..*|typer\.core"
)
_PRIVATE = re.compile(r"_[a-z]\w*")


def _rows() -> list[tuple[str, str, list[str]]]:
    """Library, file and names of each row."""
    rows = [row for row in table_rows(PAGE.read_text(encoding="utf-8")) if len(row) == 5]
    return [(row[0], row[1].strip("`"), code_words(row[2])) for row in rows if row[0] != "Library"]


ROWS = _rows()


def _files() -> list[Path]:
    return [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]


@cache
def _nodes(file: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


@cache
def _imports(file: Path) -> frozenset[tuple[str, str]]:
    """Module and name of everything that is imported from a library."""
    found = set()
    for node in _nodes(file):
        if isinstance(node, ast.Import):
            found |= {(alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {(node.module or "", alias.name) for alias in node.names}
    ours = {*PACKAGES, *sys.stdlib_module_names}
    return frozenset(each for each in found if each[0].partition(".")[0] not in ours)


@cache
def _own(file: Path) -> frozenset[str]:
    """The private names that a file gives itself: functions, and attributes of `self`, `cls` or a class."""
    names = set()
    for node in _nodes(file):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                names.add(node.name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), ctx=ast.Store()):
                names.add(node.attr)
            case ast.Name(ctx=ast.Store()):
                names.add(node.id)
            case _:
                pass
    return frozenset(names)


def _inherited(file: Path) -> set[str]:
    """The private names that classes of libraries give the classes that are made of them here."""
    origin = {name: module for module, name in _imports(file)}
    bases = {
        base.id
        for node in _nodes(file)
        if isinstance(node, ast.ClassDef)
        for base in node.bases
        if isinstance(base, ast.Name) and base.id in origin
    }
    made = [base for base in (getattr(import_module(origin[name]), name) for name in bases) if isinstance(base, type)]
    kinds = {kind for base in made for kind in base.__mro__[:-1]}
    return set().union(*(_names_of(kind) for kind in kinds if kind.__module__ not in sys.stdlib_module_names))


@cache
def _names_of(kind: type) -> frozenset[str]:
    return frozenset(re.findall(r"(?:self\.|def )(_[a-z]\w*)", inspect.getsource(kind)))


#: Documented in spite of their underscore: of `os`, and of named tuples.
_PUBLIC_ALL_THE_SAME = {"_exit", "_asdict", "_replace"}


def _seams(file: Path) -> set[str]:
    """What a file uses of libraries that is not public; private names of its neighbours are ours."""
    own = set().union(*map(_own, file.parent.glob("*.py"))) - _inherited(file)
    attributes = [node for node in _nodes(file) if isinstance(node, ast.Attribute)]
    return {
        *(module for module, _ in _imports(file) if "." in module and not PUBLIC.fullmatch(module)),
        *(name for _, name in _imports(file) if _PRIVATE.fullmatch(name)),
        *(
            node.attr
            for node in attributes
            if _PRIVATE.fullmatch(node.attr) and node.attr not in own | _PUBLIC_ALL_THE_SAME
        ),
        *(node.attr for node in attributes if node.attr == "__class__" and isinstance(node.ctx, ast.Store)),
    }


def test_every_private_part_of_a_library_has_a_row() -> None:
    listed = {(where, name) for _, where, names in ROWS for name in names}
    found = {(str(file.relative_to(ROOT)), name) for file in _files() for name in _seams(file)}

    assert found - listed == set(), f"add what is missing to {PAGE.name}"
    assert found, "there are some"


@pytest.mark.parametrize(("_", "file", "names"), ROWS)
def test_every_row_is_still_in_the_code(_: str, file: str, names: list[str]) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")

    assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", text)] == []
    assert names


@pytest.mark.parametrize("library", sorted({library for library, _, _ in ROWS}))
def test_every_library_with_a_row_is_pinned_to_its_minor_version(library: str) -> None:
    [required] = [one for one in PROJECT["project"]["dependencies"] if re.match(rf"{library}\b(?!-)", one)]

    assert re.search(r"<\d+\.\d+", required), required
