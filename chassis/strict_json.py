"""JSON in which each member comes once; what a repeated one means is left open (RFC 8259, section 4)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


class UnreadableJsonError(ValueError):
    """The text is no JSON that we read; says why, as the end of a sentence."""


class RepeatedMemberError(ValueError):
    """A member of an object comes twice; `path` leads to it."""

    def __init__(self, path: list[str | int]) -> None:
        """Of a document in which the last part of the path is there more than once."""
        super().__init__("comes twice; give it once")
        self.path = path


def read_json(text: str) -> Any:
    """The document that a text is.

    Raises:
        UnreadableJsonError: it is none (NaN and Infinity are none), is nested too deeply, or has too long a number.
        RepeatedMemberError: a member of one of its objects comes twice.
    """
    repeated: list[tuple[dict[str, Any], str]] = []

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            repeated.append((made, _first_repeated(name for name, _ in pairs)))
        return made

    try:
        document = json.loads(text, object_pairs_hook=once, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise UnreadableJsonError(f"is not JSON: {error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise UnreadableJsonError("is nested too deeply") from None
    except ValueError as error:
        # Python's limit on the digits of a number, which its JSON reader passes on.
        raise UnreadableJsonError("has a number of too many digits") from error
    if repeated:
        # The last one is the outermost: whatever an outer repetition has dropped came before it.
        made, name = repeated[-1]
        raise RepeatedMemberError([*_path_to(made, document), name])
    return document


def _first_repeated(names: Iterable[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    raise AssertionError("one of them comes twice")


def _path_to(wanted: object, document: Any) -> list[str | int]:
    """The way to an object that is in the document."""
    waiting: list[tuple[list[str | int], Any]] = [([], document)]
    while True:
        path, value = waiting.pop()
        if value is wanted:
            return path
        if isinstance(value, dict):
            waiting += [([*path, name], inner) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [([*path, index], inner) for index, inner in enumerate(value)]


def _no_constant(name: str) -> Any:
    raise json.JSONDecodeError(f"{name} is no JSON", "", 0)
