"""Every command that our words tell somebody to run is one that the command line takes, as it stands there.

The words are read from the sources of code and of the console's pages, as they are printed; what is filled in there, or
by whoever reads it, is replaced by examples. Whether a remedy mends anything is walked where it belongs
(tests/integration/disasters); that it is no usage error is seen here, of all of them.
"""

import ast
import re
import shlex
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from typer.core import TyperGroup
from typer.exceptions import TyperException

from cli.main import COMMANDS, load_command

ROOT = Path(__file__).parents[3]
PACKAGES = (
    "chassis", "cli", "command_api", "console", "event_api", "events", "local_stack", "outbox", "projectors",
    "query_api", "read_model",
)  # fmt: skip
#: Where code fills something in, or a reader does: `ID…`, `FILE`.
GAP = re.compile(r"\{\}|\b[A-Z]+\b…?")
#: A projection and a database, a number, a user, a parked record, a file.
EXAMPLES = ("users", "query", "7", "01a203c9-2100-7681-90d7-176ca6de65cd", "users/1/3/42", __file__)
#: By these names servers know our connections.
NOT_PRINTED = {"application", "LOCK_APPLICATION"}


class _Texts(ast.NodeVisitor):
    """The texts of a module, but for its docstrings; what is filled in is `{}`."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self.found.append("".join(str(one.value) if isinstance(one, ast.Constant) else "{}" for one in node.values))
        for one in node.values:
            if isinstance(one, ast.FormattedValue):
                self.visit(one.value)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.found.append(node.value)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg not in NOT_PRINTED:
            self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if not (isinstance(node.target, ast.Name) and node.target.id in NOT_PRINTED):
            self.generic_visit(node)


def texts() -> Iterator[tuple[str, str]]:
    """Where a text is, and the text, its commands between backticks."""
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            visitor = _Texts()
            visitor.visit(ast.parse(file.read_text(encoding="utf-8")))
            yield from ((str(file.relative_to(ROOT)), text) for text in visitor.found)
    for file in sorted((ROOT / "console" / "templates").glob("*.html")):
        page = re.sub(r"\{\{.*?\}\}", "{}", file.read_text(encoding="utf-8"))
        yield str(file.relative_to(ROOT)), re.sub(r"</?(?:code|pre)[^>]*>", "`", page)


def printed() -> dict[str, str]:
    """Each command that is printed, and where."""
    return {command: file for file, text in texts() for command in re.findall(r"`muster ([^`]+)`", text)}


def parse(arguments: list[str]) -> None:
    """Read a command line as `muster` does, and do nothing.

    Raises:
        TyperException: it is none.
    """
    name, *rest = arguments
    command = load_command(name, COMMANDS[name])
    if isinstance(command, TyperGroup):
        sub = rest[0] if rest else ""
        if sub not in command.commands:
            raise TyperException(f"{name} has no {sub!r}")
        command, name, rest = command.commands[sub], f"{name} {sub}", rest[1:]
    command.make_context(name, rest)


def is_taken(command: str) -> bool:
    """Whether the command line takes it, with some example in each gap."""
    first, *rest = GAP.split(command)
    for examples in product(EXAMPLES, repeat=len(rest)):
        filled = first + "".join(example + piece for example, piece in zip(examples, rest, strict=True))
        words = shlex.split(filled.rstrip(" …"))
        if words[0] not in COMMANDS:
            return False
        try:
            parse(words)
        except TyperException:
            continue
        return True
    return False


@pytest.mark.parametrize("command", sorted(printed()))
def test_a_command_that_is_printed_is_taken_by_the_command_line(command: str) -> None:
    assert is_taken(command), f"muster {command}, as {printed()[command]} prints it"


@pytest.mark.parametrize(
    "command",
    ["outbox drop", "rebuild outdated --accept-difference", "rebuild retire", "parked", "sing", "lag {}"],
)
def test_what_the_command_line_does_not_take_would_be_seen(command: str) -> None:
    assert not is_taken(command)


def test_whatever_is_printed_shows_where_a_command_begins_and_ends() -> None:
    bare = re.compile(rf"\bmuster (?:{'|'.join(COMMANDS)})\b")
    found = [(file, text) for file, text in texts() if bare.search(re.sub(r"`[^`]*`", "", text))]

    assert found == []
