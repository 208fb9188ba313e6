"""Where the parts of a request end in what came."""

import re
from typing import Any, Final

_EMPTY_LINE: Final = b"\r\n\r\n"
_IN_A_LINE: Final = re.compile(rb"[^\r\n]")
_UPGRADE: Final = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)


def host_and_port(address: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
    """Of a socket's address, which has more where it is IPv6."""
    return address[:2] if address else None


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
