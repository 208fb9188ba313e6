"""The sorts and filters of the list of users, and the SQL condition of each filter.

Names and addresses are compared by their keys, by code point. So a prefix is a range of keys.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from chassis.identifiers import read_id
from chassis.text_keys import email_key, text_key
from query_api.protocol.parameters import Parameter, choice, read_time, read_time_before, text

#: The command API's limits: nothing longer is stored.
_LONGEST_EMAIL: Final = 254
_LONGEST_USERNAME: Final = 50
#: A page's worth. Whoever wants more wants an export: the events are for that.
MOST_IDS: Final = 200

_LAST_CODE_POINT: Final = 0x10FFFF
_FIRST_SURROGATE: Final = 0xD800
_LAST_SURROGATE: Final = 0xDFFF


@dataclass(frozen=True, slots=True)
class Sort:
    """An order: by a column, ties by id, both in one direction."""

    column: str
    descending: bool
    #: Whether the column holds times; if not, it holds text.
    is_time: bool


SORTABLE: Final = {
    "created_at": ("created_at", True),
    "updated_at": ("updated_at", True),
    "username": ("username_key", False),
    "email": ("email_key", False),
}
SORTS: Final = {
    sign + name: Sort(column, bool(sign), is_time) for name, (column, is_time) in SORTABLE.items() for sign in ("", "-")
}
DEFAULT_SORT: Final = "-created_at"


def _email(name: str, description: str, example: str) -> Parameter:
    schema = {"type": "string", "minLength": 1, "maxLength": _LONGEST_EMAIL, "pattern": "^[^ \\u0000]+$"}
    read = text(longest=_LONGEST_EMAIL, refuse_space=True)
    return Parameter(
        name=name, read=lambda given: email_key(read(given)), schema=schema, description=description, example=example
    )


def _username(name: str, description: str, example: str) -> Parameter:
    schema = {"type": "string", "minLength": 1, "maxLength": _LONGEST_USERNAME, "pattern": "^[^\\u0000]+$"}
    read = text(longest=_LONGEST_USERNAME)
    return Parameter(
        name=name, read=lambda given: text_key(read(given)), schema=schema, description=description, example=example
    )


def _time(name: str, description: str, example: str, read: Callable[[str], datetime] = read_time) -> Parameter:
    schema = {"type": "string", "format": "date-time"}
    return Parameter(name=name, read=read, schema=schema, description=description, example=example)


SORT: Final = Parameter(
    name="sort",
    read=choice(*SORTS),
    # No default is declared: generated clients send it, and a cursor brings its own sort.
    schema={"type": "string", "enum": list(SORTS)},
    description=f"Order, `{DEFAULT_SORT}` where neither this nor a cursor says one; ties are broken by id. Names and"
    " addresses sort by their keys, in code point order.",
    example="username",
)
FILTERS: Final = (
    Parameter(
        name="status",
        read=choice("active", "deactivated"),
        schema={"type": "string", "enum": ["active", "deactivated"]},
        description="Only users with this status.",
        example="active",
    ),
    _email("email", "Only the user with this address, in whatever case and spelling of the domain.", "ann@example.com"),
    _username("username", "Only the user with this name, in whatever case.", "ann"),
    _username("username_prefix", "Only users whose name begins so, in whatever case.", "an"),
    _email(
        "email_prefix",
        "Only users whose address begins so, in whatever case; a label of the domain that is not ASCII must be whole.",
        "ann@",
    ),
    _time("created_after", "Only users created later than this.", "2026-11-01T00:00:00Z"),
    _time("created_before", "Only users created earlier than this.", "2026-12-01T00:00:00Z", read_time_before),
    _time("updated_after", "Only users changed later than this.", "2026-11-22T08:30:00Z"),
    Parameter(
        name="id",
        read=read_id,
        schema={"type": "string", "format": "uuid"},
        description=f"Only users with one of these ids; up to {MOST_IDS}.",
        example="018f3c5a-7b1e-7cc2-9a51-0242ac120002",
        most=MOST_IDS,
    ),
)
FILTER_NAMES: Final = tuple(filter_.name for filter_ in FILTERS)


FilterValue = str | datetime | tuple[UUID, ...]
#: By name; the order is that of FILTERS.
Filters = Mapping[str, FilterValue]


@dataclass(frozen=True, slots=True)
class Condition:
    """A filter's SQL, with its values as `{0}` and `{1}`, and the column that it bounds."""

    sql: str
    column: str
    #: Set if no more rows match than the filter has values: then they are found first and sorted afterwards.
    exact: bool = False


CONDITIONS: Final = {
    "email": Condition("email_key = {0}", "email_key", exact=True),
    "username": Condition("username_key = {0}", "username_key", exact=True),
    "username_prefix": Condition("username_key >= {0} AND username_key < {1}", "username_key"),
    "email_prefix": Condition("email_key >= {0} AND email_key < {1}", "email_key"),
    "created_after": Condition("created_at > {0}", "created_at"),
    "created_before": Condition("created_at < {0}", "created_at"),
    "updated_after": Condition("updated_at > {0}", "updated_at"),
    "id": Condition("id = ANY({0}::uuid[])", "id", exact=True),
    # Written out, not sent as a value: otherwise a prepared plan could not use the index of that status.
    "status=active": Condition("status = 'active'", "status"),
    "status=deactivated": Condition("status = 'deactivated'", "status"),
}


def conditions(filters: Filters) -> tuple[tuple[str, ...], list[Any]]:
    """The names of the filters' CONDITIONS, and the conditions' values, both in the same order."""
    names: list[str] = []
    values: list[Any] = []
    for name, value in filters.items():
        if name == "status":
            names.append(f"status={value}")
            continue
        names.append(name)
        values.append(list(value) if isinstance(value, tuple) else value)
        if name.endswith("_prefix"):
            values.append(after_prefix(str(value)))
    return tuple(names), values


def after_prefix(prefix: str) -> str:
    """The least text, by code point, that is greater than every text with this prefix."""
    for end in range(len(prefix), 0, -1):
        following = ord(prefix[end - 1]) + 1
        if _FIRST_SURROGATE <= following <= _LAST_SURROGATE:
            following = _LAST_SURROGATE + 1
        if following <= _LAST_CODE_POINT:
            return prefix[: end - 1] + chr(following)
    # No text is greater than all with a prefix of last code points; no user has such a name (it is not a character).
    return prefix + chr(_LAST_CODE_POINT)
