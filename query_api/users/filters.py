"""The sorts and filters of the list of users, as clients send them; `statements.py` has the SQL of each filter."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from chassis.identifiers import read_id
from chassis.text_keys import email_key, text_key
from query_api.protocol.parameters import Parameter, choice, read_time, read_time_before, text

#: The command API's limits: nothing longer is stored.
_LONGEST_EMAIL: Final = 254
_LONGEST_USERNAME: Final = 50
#: A page's worth. Whoever wants more wants an export: the events are for that.
MOST_IDS: Final = 200


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
#: Values by name; the order is that of FILTERS.
Filters = Mapping[str, FilterValue]
