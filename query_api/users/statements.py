"""The SQL of the list of users, for each shape of request; values always travel as parameters.

How a page is found, measured at 1,000,000 users and held by tests/integration/query_api/users/test_plans.py:

- Filters on the sort's own column and on the status bound a walk along an index that is in the sort's order: the walk
  reads the page and nothing else. (Active users have no index of their own: if one user in ten is active, a page of
  them reads ten pages.)
- An exact filter (id, e-mail, username) leaves at most MOST_IDS rows: they are read, then sorted.
- Filters on other columns compete with the sort. First a walk in the sort's order takes the rows that match, over at
  most WALK_PAGES times the page. If it found no whole page and did not reach its end, matches are rare: all of them are
  read by the filter's own index and sorted. If filter and sort are independent of each other, these are less than one
  user in WALK_PAGES. If they are opposed (created long ago, changed just now), these may be many, and the statement's
  time limit is the bound. Of 1,032 sorts and pairs of filters, the most expensive page of ten that is not opposed reads
  9,209 rows (`make plans`); left to the planner, 12 of them read 900,000 rows or more (1.6 s) and 60 more than 14,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

from query_api.reading.versions import NOT_BEHIND, unless_behind
from query_api.users.filters import SORTS, Filters, Sort
from query_api.users.places import PagePlace, position_sql
from read_model.users import users_tables

#: Pages' worth of rows that a walk may read: at 100, a walk in vain costs about what a useful one saves (5 ms).
WALK_PAGES: Final = 100
#: Shapes whose SQL is kept; far more than a deployment's clients use at once.
_KEPT_SHAPES: Final = 512

_LAST_CODE_POINT: Final = 0x10FFFF
_FIRST_SURROGATE: Final = 0xD800
_LAST_SURROGATE: Final = 0xDFFF


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


class PageShape(NamedTuple):
    """Everything that decides the SQL text of a page."""

    generation: int
    sort: str
    #: Names in CONDITIONS, in the order of their values.
    filters: tuple[str, ...] = ()
    after: bool = False
    skip: bool = False
    tokens: bool = False

    @classmethod
    def of(cls, generation: int, place: PagePlace, *, skip: bool, tokens: bool) -> tuple[PageShape, list[Any]]:
        """The shape of the page at a place, and the values of its filters."""
        names, values = conditions(place.filters)
        return cls(generation, place.sort, names, bool(place.position), skip, tokens), values


class PageSql(NamedTuple):
    """SQL for asyncpg. Its parameters: the filters' values, [key and id], limit, [skip], [ids and versions]."""

    text: str
    #: Set if filters compete with the sort: which of their indexes is best depends on the values.
    plan_each_time: bool


@lru_cache(maxsize=_KEPT_SHAPES)
def page_sql(shape: PageShape) -> PageSql:
    """A page: rows of (document, position), in order; if tokens are wanted and not reached, one row of nulls.

    (Tried: string_agg of the documents in SQL, as one value. For a single page it saves 20 microseconds of Python and
    costs PostgreSQL 60; for many at once it pays.)
    """
    page = _PageParts(shape)
    sql = page.found_and_sorted() if page.is_exact else page.walked_or_sorted() if page.is_mixed else page.walked()
    return PageSql(page.unless_behind(sql) if shape.tokens else sql, plan_each_time=page.is_mixed)


@lru_cache(maxsize=_KEPT_SHAPES)
def is_walked(shape: PageShape) -> bool:
    """Whether a page of this shape is read along its sort's index: then one statement can read many of them."""
    page = _PageParts(shape)
    return not (page.is_exact or page.is_mixed or shape.skip or shape.tokens)


@lru_cache(maxsize=_KEPT_SHAPES)
def pages_sql(shape: PageShape) -> str:
    """Many pages of a shape that `is_walked`, each after a place of its own: one row for each, in the places' order.

    A row is (documents, beyond, position). `documents` holds all documents with commas between them. The limit is one
    more than is shown: if there are so many, `beyond` is the length in bytes of the last one, and `position` that of
    the one before it. Parameters: the filters' values, the places' keys, their ids, limit.
    """
    return _PageParts(shape, many=True).walked_from_each()


@lru_cache(maxsize=_KEPT_SHAPES)
def count_sql(generation: int, filters: tuple[str, ...]) -> str:
    """The statement that counts the users who match the filters."""
    numbers = _Numbers()
    where = [_condition(name, numbers) for name in filters]
    return f"SELECT count(*) FROM {users_tables(generation).users.name}{_where(where)}"  # noqa: S608 - our names


class _Numbers:
    """The placeholders `$1`, `$2` and so on, each used once."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> str:
        self._last += 1
        return f"${self._last}"


class _PageParts:
    """The parts of one shape's statement."""

    def __init__(self, shape: PageShape, *, many: bool = False) -> None:
        self._tables = users_tables(shape.generation)
        self._users = self._tables.users.name
        self._sort: Sort = SORTS[shape.sort]
        self._numbers = _Numbers()
        filters = {name: _condition(name, self._numbers) for name in shape.filters}
        alongside = {name for name in filters if CONDITIONS[name].column in (self._sort.column, "status")}
        self._bounds = [sql for name, sql in filters.items() if name in alongside]
        self._others = [sql for name, sql in filters.items() if name not in alongside]
        self.is_exact = any(CONDITIONS[name].exact for name in filters)
        self.is_mixed = bool(self._others) and not self.is_exact
        if shape.after:
            beyond = "<" if self._sort.descending else ">"
            self._keys, self._ids = self._numbers.next(), self._numbers.next()
            place = 'place.key COLLATE "C", place.id' if many else f"{self._keys}, {self._ids}::uuid"
            if many and self._sort.is_time:
                place = "place.key, place.id"
            self._bounds.append(f"({self._sort.column}, id) {beyond} ({place})")
        self._limit = self._numbers.next()
        self._skip = self._numbers.next() if shape.skip else ""
        if {"created_after", "created_before"} <= set(shape.filters):
            self._bounds.append(_not_empty(filters["created_after"], filters["created_before"]))
        if shape.tokens:
            self._bounds.append(NOT_BEHIND)

    def walked(self) -> str:
        """Along the sort's index."""
        return f"SELECT {self._shown()} FROM {self._users}{_where(self._bounds)}{self._order()}{self._cut()}"  # noqa: S608

    def walked_from_each(self) -> str:
        """Along the sort's index, from each place."""
        column, order = self._sort.column, self._order()

        def nth(value: str, number: str) -> str:
            return f"(array_agg({value}{order}))[{self._limit}::int{number}]"

        walk = f"SELECT id, document, {column} FROM {self._users}{_where(self._bounds)}{order}{self._cut()}"  # noqa: S608
        position = position_sql(self._sort, nth("id", " - 1"), nth(column, " - 1"))
        page = (
            f"SELECT string_agg(document, ','::bytea{order}) AS documents,"  # noqa: S608 - our names
            f" {nth('octet_length(document)', '')} AS beyond, {position} AS position FROM ({walk}) AS walk"
        )
        keys = f"{self._keys}::{'timestamptz' if self._sort.is_time else 'text'}[]"
        return (
            f"SELECT page.* FROM unnest({keys}, {self._ids}::uuid[]) WITH ORDINALITY AS place (key, id, number)"  # noqa: S608
            f" CROSS JOIN LATERAL ({page}) AS page ORDER BY place.number"
        )

    def found_and_sorted(self) -> str:
        """The rows are found by the filters' index, then sorted; OFFSET 0 keeps the planner off the sort's index."""
        where = _where([*self._others, *self._bounds])
        found = f"SELECT id, document, {self._sort.column} FROM {self._users}{where} OFFSET 0"  # noqa: S608
        return f"SELECT {self._shown()} FROM ({found}) AS found{self._order()}{self._cut()}"  # noqa: S608

    def walked_or_sorted(self) -> str:
        """The rows are found by a walk of at most WALK_PAGES pages along the sort's index, else by the filters'."""
        most = f"{WALK_PAGES} * ({self._limit}::bigint + {self._skip or 0}::bigint)"
        bounds, order = _where(self._bounds), self._order()
        walk = f"SELECT * FROM {self._users}{bounds}{order} LIMIT {most}"  # noqa: S608
        near = f"SELECT {self._shown()} FROM ({walk}) AS walk{_where(self._others)}{self._cut()}"  # noqa: S608
        where = _where([*self._others, *self._bounds])
        rare = f"SELECT id, document, {self._sort.column} FROM {self._users}{where} OFFSET 0"  # noqa: S608
        # A walk that reached its end has found all matches: a last page is short, and need not be read in another way.
        ended = f"NOT EXISTS (SELECT FROM {self._users}{bounds}{order} OFFSET {most} LIMIT 1)"
        enough = f"SELECT CASE WHEN count(*) >= {self._limit} THEN true ELSE {ended} END AS is_so FROM near"  # noqa: S608
        return (
            f"WITH near AS MATERIALIZED ({near}), enough AS MATERIALIZED ({enough})"  # noqa: S608 - our names
            " SELECT document, position FROM near WHERE (SELECT is_so FROM enough) UNION ALL"
            f" (SELECT {self._shown()} FROM ({rare}) AS rare WHERE NOT (SELECT is_so FROM enough)"
            f"{order}{self._cut()})"
        )

    def unless_behind(self, sql: str) -> str:
        """The same, and one row of nulls where the tokens are not reached."""
        ids, versions = self._numbers.next(), self._numbers.next()
        return unless_behind(self._tables, ids, versions, else_row="NULL AS document, NULL AS position", read=sql)

    def _shown(self) -> str:
        return f"document, {position_sql(self._sort, 'id', self._sort.column)} AS position"

    def _order(self) -> str:
        direction = "DESC" if self._sort.descending else "ASC"
        return f" ORDER BY {self._sort.column} {direction}, id {direction}"

    def _cut(self) -> str:
        return f" LIMIT {self._limit}" + (f" OFFSET {self._skip}" if self._skip else "")


def _condition(name: str, numbers: _Numbers) -> str:
    sql = CONDITIONS[name].sql
    return sql.format(*(numbers.next() for place in ("{0}", "{1}") if place in sql))


def _where(bounds: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(bounds)}" if bounds else ""


def _not_empty(after: str, before: str) -> str:
    """A comparison of the period's ends: without it, an impossible period would be searched to the end."""
    (*_, first), (*_, last) = after.split(), before.split()
    return f"{first}::timestamptz < {last}::timestamptz"


def conditions(filters: Filters) -> tuple[tuple[str, ...], list[Any]]:
    """The names of the filters' CONDITIONS, and the conditions' values, both in the same order.

    Names and addresses are compared by their keys, by code point, so a prefix is a range of keys.
    """
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
