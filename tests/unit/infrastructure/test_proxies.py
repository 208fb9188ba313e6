"""No client of HTTP in the program sends a token, or asks for keys, through a proxy that could read and answer it.

httpx takes proxies from the environment by default, for http too, and so for what is on this machine.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.docs.pages import ROOT
from tests.unit.docs.test_private_seams import PACKAGES

#: What opens connections by the environment unless it is told not to.
CLIENTS = frozenset({"Client", "AsyncClient", "HTTPTransport", "AsyncHTTPTransport"})
#: Each makes a client of its own, which cannot be told.
AT_ONCE = frozenset({"get", "post", "put", "patch", "delete", "head", "options", "request", "stream"})
#: Either keeps http away from proxies.
KEPT_AWAY = ("trust_env=False", "mounts={'http://': None}")


def _made(text: str) -> Iterator[ast.Call]:
    """Every call of httpx that opens connections, by whatever name."""
    tree = ast.parse(text)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "httpx"]
    named = {alias.asname or alias.name for node in imports for alias in node.names if alias.name in CLIENTS | AT_ONCE}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in named:
                yield node
            case ast.Call(func=ast.Attribute(value=ast.Name(id="httpx"), attr=name)) if name in CLIENTS | AT_ONCE:
                yield node
            case _:
                pass


def _is_kept_away(call: ast.Call) -> bool:
    return any(ast.unparse(keyword) in KEPT_AWAY for keyword in call.keywords)


def test_every_client_keeps_http_from_proxies() -> None:
    files = [file for package in (*PACKAGES, "examples") for file in sorted((ROOT / package).rglob("*.py"))]
    found = [(file, call) for file in files for call in _made(file.read_text(encoding="utf-8"))]

    assert len({file for file, _ in found}) >= 8
    assert [_place(file, call) for file, call in found if not _is_kept_away(call)] == []


def _place(file: Path, call: ast.Call) -> str:
    return f"{file.relative_to(ROOT)}:{call.lineno}"


@pytest.mark.parametrize(
    ("text", "is_kept_away"),
    [
        ("httpx.Client()", False),
        ("httpx.AsyncClient(trust_env=True)", False),
        ("from httpx import AsyncClient as Http\nHttp(timeout=5)", False),
        ("httpx.get('http://127.0.0.1')", False),
        ("httpx.AsyncClient(trust_env=False)", True),
        ("from httpx import AsyncClient\nAsyncClient(mounts={'http://': None})", True),
    ],
)
def test_a_client_is_found_by_whatever_name(text: str, *, is_kept_away: bool) -> None:
    assert [_is_kept_away(call) for call in _made(text)] == [is_kept_away]
