"""Query parameters: each is declared once, and the declaration both reads it and describes it in the OpenAPI document.

Reading is strict: one 422 names all unknown parameters, all repeated single-valued ones and all wrong values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl
from uuid import UUID

from chassis.clock import read_rfc3339
from chassis.http.problems import MALFORMED, FieldError, Problem, invalid, invalid_parameter
from chassis.identifiers import read_id

_FINER: Final = re.compile(r"\.\d{6}(\d+)")
_LAST_TIME: Final = datetime.max.replace(tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
#: More parameters than any route can use; parsing stops there.
_MOST_PAIRS: Final = 1000

JsonSchema = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One query parameter: how to read it (a ValueError says what is wrong), and its description."""

    name: str
    read: Callable[[str], Any]
    schema: JsonSchema
    description: str
    example: Any
    #: It may be sent this often; if more than once, its value is a list.
    most: int = 1


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one route."""

    known: tuple[Parameter, ...]
    by_name: Mapping[str, Parameter] = field(init=False)

    def __post_init__(self) -> None:
        """Index them."""
        object.__setattr__(self, "by_name", {parameter.name: parameter for parameter in self.known})

    def read(self, query: bytes) -> dict[str, Any]:
        """The values by name, lists for repeatable parameters; parameters that were not sent are absent.

        Raises:
            Problem: 422 that lists every mistake; 400 if the query string is not UTF-8 text.
        """
        if not query:
            return {}
        given: dict[str, list[str]] = {}
        for name, text in _pairs(query):
            given.setdefault(name, []).append(text)
        errors: list[FieldError] = []
        values = {name: self._read_one(name, texts, errors) for name, texts in given.items()}
        if errors:
            raise invalid(errors)
        return values

    def _read_one(self, name: str, texts: Sequence[str], errors: list[FieldError]) -> Any:
        parameter = self.by_name.get(name)
        if parameter is None:
            allowed = ", ".join(sorted(self.by_name)) or "none"
            errors.append({"detail": f"is not a known parameter; this route takes: {allowed}", "parameter": name})
            return None
        if len(texts) > parameter.most:
            allowed = "once" if parameter.most == 1 else f"at most {parameter.most} times"
            errors.append({"detail": f"is given {len(texts)} times; give it {allowed}", "parameter": name})
            return None
        try:
            values = [parameter.read(text) for text in texts]
        except ValueError as error:
            errors.append({"detail": str(error), "parameter": name})
            return None
        return values if parameter.most > 1 else values[0]


def _pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_PAIRS)
    except UnicodeDecodeError as error:
        raise Problem(MALFORMED, "the query string must be percent-encoded UTF-8") from error
    except ValueError as error:
        raise Problem(MALFORMED, f"the query string has more than {_MOST_PAIRS} parameters") from error


def path_id(text: str) -> UUID:
    """The `id` of the path.

    Raises:
        Problem: 422, it is not a UUID.
    """
    try:
        return read_id(text)
    except ValueError as error:
        raise invalid_parameter("id", str(error)) from error


def read_time(text: str) -> datetime:
    """An RFC 3339 time; digits beyond microseconds are cut off, which changes nothing for "later than"."""
    try:
        return read_rfc3339(text)
    except ValueError as error:
        hint = "; write its + as %2B" if " " in text else ""
        raise ValueError(f"{error}{hint}") from error


def read_time_before(text: str) -> datetime:
    """An RFC 3339 time; rounded up to a microsecond, so that "earlier than" leaves out nobody who is earlier."""
    time = read_time(text)
    finer = _FINER.search(text)
    if not finer or not finer[1].strip("0") or time == _LAST_TIME:
        return time
    return time + _MICROSECOND


def read_date(text: str) -> date:
    """A full-date of RFC 3339."""
    if not _DATE.fullmatch(text):
        raise ValueError("must be a date such as 2026-11-22")
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError("must be a date that exists") from error


def whole_number(*, least: int, most: int) -> Callable[[str], int]:
    """A reader of whole numbers from `least`; more than `most` is read as `most`."""
    width = len(str(most))

    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal()):
            raise ValueError(f"must be a whole number from {least}")
        digits = text.lstrip("0") or "0"
        number = most if len(digits) > width else min(int(digits), most)
        if number < least:
            raise ValueError(f"must be at least {least}")
        return number

    return read


def choice(*allowed: str) -> Callable[[str], str]:
    """A reader of one of these texts."""

    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return text

    return read


def text(*, longest: int, refuse_space: bool = False) -> Callable[[str], str]:
    """A reader of text that may be stored: not empty, not longer than `longest`, without NUL."""

    def read(text: str) -> str:
        if not 0 < len(text) <= longest:
            raise ValueError(f"must have 1 to {longest} characters")
        if "\0" in text:
            raise ValueError("must not contain NUL")
        if refuse_space and " " in text:
            raise ValueError("must not contain a space; write + as %2B")
        return text

    return read
