"""The parts of a request in what came: where they end, and what an app is told of them."""

import re
from typing import Any, Final
from urllib.parse import unquote

import httptools
from httptools.parser.errors import HttpParserInvalidURLError

_EMPTY_LINE: Final = b"\r\n\r\n"
_IN_A_LINE: Final = re.compile(rb"[^\r\n]")
_UPGRADE: Final = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)


def host_and_port(address: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """Of a socket's address, which has more where it is IPv6."""
    return address[:2] if address else None


def request_scope(target: bytes, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    """What ASGI's scope says of a request's target, and what is the same for all.

    Raises:
        HttpParserInvalidURLError: the target is no path.
    """
    url = httptools.parse_url(target)
    if not url.path or not target.isascii():
        raise HttpParserInvalidURLError
    path = url.path.decode("ascii")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "scheme": "http",
        "root_path": "",
        "path": unquote(path) if "%" in path else path,
        "raw_path": url.path,
        "query_string": url.query or b"",
        "headers": headers,
    }


def end_of_lines(before: bytes, data: bytes, at: int) -> int:
    """Where the next empty line ends in `data` from `at` on, `before` being what came before; its end for none."""
    if before and (found := (before + data[at : at + 3]).find(_EMPTY_LINE)) >= 0:
        return at + found + len(_EMPTY_LINE) - len(before)
    found = data.find(_EMPTY_LINE, at)
    return len(data) if found < 0 else found + len(_EMPTY_LINE)


def end_of_empty_lines(data: bytes, at: int) -> int:
    """Where the first byte of a line stands in `data` from `at` on; its end for none."""
    begins = _IN_A_LINE.search(data, at)
    return begins.start() if begins else len(data)


def without_upgrade(head: bytes) -> bytes:
    """A head without its Upgrade fields."""
    return _UPGRADE.sub(b"", head)
