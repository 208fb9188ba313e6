"""Prints what commands say: results on standard output (tables, or JSON with --json), errors on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Report as JSON.")]


def say(message: str) -> None:
    """Print one line of a result."""
    print(message)  # noqa: T201 - the answer of a command


def say_aside(message: str) -> None:
    """Print one line on standard error, beside the result."""
    print(message, file=sys.stderr)  # noqa: T201 - the answer of a command


def fail(message: str, *, code: int = 1) -> NoReturn:
    """Print what went wrong and end with exit code 1 (2 for wrong use)."""
    say_aside(message)
    raise typer.Exit(code)


def print_json(document: Any) -> None:
    """Print one JSON document, for --json."""
    say(json.dumps(document, ensure_ascii=False, indent=2, default=_encode))


def say_json(document: Any) -> None:
    """Print one JSON document on one line, for those of which many follow."""
    say(json.dumps(document, ensure_ascii=False))


def say_fields(document: Mapping[str, Any]) -> None:
    """Print each field on a line of its own; of a field that is a list of names and values, each pair."""
    for name, value in document.items():
        if isinstance(value, list):
            say(f"{name}:")
            for part, text in value:
                say(f"  {legible(part)}: {shown(text)}")
        else:
            say(f"{name}: {shown(value)}")


def shown(value: object) -> str:
    """Return a value for people."""
    return "(none)" if value is None else legible(str(value))


def as_text(raw: bytes | None) -> str | None:
    """Decode UTF-8; other bytes are escaped."""
    return None if raw is None else raw.decode("utf-8", "backslashreplace")


def legible(text: str) -> str:
    """Escape whatever is not printable in foreign text: a terminal might obey it."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def counted(number: int, noun: str) -> str:
    """Return the number with its noun, such as `1 user` or `1,200 users`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _encode(value: object) -> str:
    """Encode what JSON has no type for; times as everywhere in Muster: RFC 3339 in UTC with microseconds."""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC).isoformat(timespec='microseconds')[:-6]}Z"
    return str(value)
