"""JSON in which each member comes once; what a repeated one means is left open (RFC 8259, section 4)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

#: Levels of objects and arrays. Documents of ours have seven, claims of a token a few more. Python's own bound differs
#: from version to version, and what walks a document later, or names a place in it, is to rely on this one.
LEVELS: Final = 64
#: A string, which may hold brackets of its own (one that does not end goes to the end), or a bracket.
_BRACKETS: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)


class UnreadableJsonError(ValueError):
    """The text is no JSON that we read; says why, as the end of a sentence."""


class RepeatedMemberError(ValueError):
    """A member of an object comes twice; `path` leads to it."""

    def __init__(self, path: list[str | int]) -> None:
        """Name a part of a document that is there more than once: the last of the path."""
        super().__init__("comes twice; give it once")
        self.path = path


def read_json(text: str) -> Any:
    """The document that a text is.

    Raises:
        UnreadableJsonError: it is none (NaN and Infinity are none), nests more than LEVELS, or has too long a number.
        RepeatedMemberError: a member of one of its objects comes twice.
    """
    if _is_too_deep(text):
        raise UnreadableJsonError(f"is nested deeper than {LEVELS} levels; flatten it")
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
    except UnreadableJsonError:
        raise
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


def _is_too_deep(text: str) -> bool:
    if text.count("[") + text.count("{") <= LEVELS:
        return False  # nearly every document, for the price of looking at it once
    level = 0
    for found in _BRACKETS.finditer(text):
        match found[0]:
            case "[" | "{":
                level += 1
                if level > LEVELS:
                    return True
            case "]" | "}":
                level -= 1
            case _:
                pass  # a string
    return False


def _path_to(wanted: object, document: Any) -> list[str | int]:
    """The way to an object that is in the document, at most LEVELS parts."""
    #: Each value after its parent: the parent's place in this list, the name in it, and the value.
    met: list[tuple[int, str | int, Any]] = [(0, "", document)]
    for place, (_, _, value) in enumerate(met):  # which grows meanwhile
        if value is wanted:
            return _names(met, place)
        if isinstance(value, dict):
            met += [(place, name, inner) for name, inner in value.items()]
        elif isinstance(value, list):
            met += [(place, index, inner) for index, inner in enumerate(value)]
    raise AssertionError("it is in the document")


def _names(met: list[tuple[int, str | int, Any]], place: int) -> list[str | int]:
    names: list[str | int] = []
    while place:
        parent, name, _ = met[place]
        names.append(name)
        place = parent
    return names[::-1]


def _no_constant(name: str) -> Any:
    # Python does not tell where it stands.
    raise UnreadableJsonError(f"is not JSON, which has no {name}")
