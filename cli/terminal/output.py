"""Prints what commands say: results on standard output (tables, or JSON with --json), errors on standard error."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Annotated, Any, NoReturn

import typer

from chassis.settings_error import SettingsError

JsonOption = Annotated[bool, typer.Option("--json", help="Report as JSON.")]


def explain_settings(error: SettingsError) -> None:
    """Print one line per wrong variable."""
    for line in error.lines:
        print(line, file=sys.stderr)  # noqa: T201 - the answer of a command


def fail(message: str, *, code: int = 1) -> NoReturn:
    """Print what went wrong and end with exit code 1 (2 for wrong use)."""
    print(message, file=sys.stderr)  # noqa: T201 - the answer of a command
    raise typer.Exit(code)


def print_json(document: Any) -> None:
    """Print one JSON document, for --json."""
    print(json.dumps(document, ensure_ascii=False, indent=2, default=_encode))  # noqa: T201 - the answer of a command


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


def say(message: str) -> None:
    """Print one line of a result."""
    print(message)  # noqa: T201 - the answer of a command


def say_json(document: Any) -> None:
    """Print one JSON document on one line, for those of which many follow."""
    say(json.dumps(document, ensure_ascii=False))
