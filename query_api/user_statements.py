"""The SQL of the list of users, for each shape of request; the values always travel as parameters."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from query_api.consistency import behind_sql
from query_api.user_filters import CONDITIONS, SORTS, Sort
from read_model.users import users_tables

#: Shapes whose SQL is kept; far more than a deployment's clients use at once.
_KEPT_SHAPES: Final = 512


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides the SQL text of a page."""

    generation: int
    sort: str
    #: Names in CONDITIONS, in the order of their values.
    filters: tuple[str, ...] = ()
    after: bool = False
    skip: bool = False
    tokens: bool = False


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL for asyncpg. Its parameters: the filters' values, [key and id], limit, [skip], [ids and versions]."""

    sql: str
    #: Which plan is best depends on the values: plan it anew each time.
    plan_each_time: bool


@lru_cache(maxsize=_KEPT_SHAPES)
def page_statement(shape: Shape) -> Statement:
    """A page: rows of (document, position), in order; where tokens are wanted and not reached, one row of nulls.

    The position is the id's 16 bytes and then the sort key's. (Tried: string_agg of the documents in SQL, as one value.
    It saves 20 microseconds of Python for a page of 50 and costs PostgreSQL 60.)
    """
    sort = SORTS[shape.sort]
    numbers = _Numbers()
    where = _where(shape.filters, numbers)
    table = users_tables(shape.generation).users.name
    exact = any(CONDITIONS[name].exact for name in shape.filters)
    if exact:
        columns = f"id, document, {sort.column}"
        source = f"(SELECT {columns} FROM {table}{_clause(where)} OFFSET 0) AS found"  # noqa: S608
        where = []
    else:
        source = table
    sql = _select(sort, source, where, shape, numbers)
    if shape.tokens:
        sql = _unless_behind(sql, shape.generation, numbers)
    return Statement(sql, plan_each_time=not exact and _mixed(shape, sort))


@lru_cache(maxsize=_KEPT_SHAPES)
def count_statement(generation: int, filters: tuple[str, ...]) -> str:
    """How many users match the filters."""
    where = _where(filters, _Numbers())
    return f"SELECT count(*) FROM {users_tables(generation).users.name}{_clause(where)}"  # noqa: S608 - our names


class _Numbers:
    """The `$n` of the parameters, in the order in which they are asked for."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> str:
        self._last += 1
        return f"${self._last}"


def _where(filters: tuple[str, ...], numbers: _Numbers) -> list[str]:
    conditions = []
    for name in filters:
        sql = CONDITIONS[name].sql
        places = [numbers.next() for place in ("{0}", "{1}") if place in sql]
        conditions.append(sql.format(*places))
    return conditions


def _clause(conditions: list[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _select(sort: Sort, source: str, where: list[str], shape: Shape, numbers: _Numbers) -> str:
    column = sort.column
    direction, beyond = ("DESC", "<") if sort.descending else ("ASC", ">")
    written = f"timestamptz_send({column})" if sort.is_time else f"convert_to({column}, 'UTF8')"
    if shape.after:
        where = [*where, f"({column}, id) {beyond} ({numbers.next()}, {numbers.next()}::uuid)"]
    if shape.tokens:
        where = [*where, "NOT (SELECT is_behind FROM behind)"]
    sql = (
        f"SELECT document, uuid_send(id) || {written} AS position FROM {source}{_clause(where)}"  # noqa: S608
        f" ORDER BY {column} {direction}, id {direction} LIMIT {numbers.next()}"
    )
    return f"{sql} OFFSET {numbers.next()}" if shape.skip else sql


def _unless_behind(sql: str, generation: int, numbers: _Numbers) -> str:
    """The check and the read in one statement, so that both see the same snapshot."""
    tables = users_tables(generation)
    behind = behind_sql(numbers.next(), numbers.next(), tables.users.name, tables.erased.name)
    return (
        f"WITH behind AS MATERIALIZED (SELECT {behind} AS is_behind)"  # noqa: S608 - our names
        f" SELECT NULL AS document, NULL AS position FROM behind WHERE is_behind UNION ALL ({sql})"
    )


def _mixed(shape: Shape, sort: Sort) -> bool:
    """Whether a filter bounds another column than the sort's, so that two indexes compete."""
    return any(CONDITIONS[name].column not in (sort.column, "status") for name in shape.filters)
