"""GET /stats/signups: how many of the users that exist registered on each UTC day, by status."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar, Final

from chassis.http.problems import invalid_parameter
from query_api.protocol.exchange import NO_STORE, QueryAnswer, QueryExchange
from query_api.protocol.parameters import Parameter, Parameters, read_date
from query_api.reading.consistency import ConsistentReads
from query_api.reading.database import FetchedRows
from query_api.reading.reader import Reader
from query_api.reading.serving import View
from query_api.reading.versions import NOT_BEHIND, WantedVersions, unless_behind
from read_model import signups

#: The default period, in days: today and the 29 days before it.
DEFAULT_DAYS: Final = 30
#: Days from the first day to the last: three years with a leap day in them, some 50 KiB of answer.
MOST_DAYS_BETWEEN: Final = 3 * 365 + 1

FROM: Final = Parameter(
    name="from",
    read=read_date,
    schema={"type": "string", "format": "date"},
    description=f"First day, inclusive; by default {DEFAULT_DAYS - 1} days before `to`.",
    example="2026-11-01",
)
TO: Final = Parameter(
    name="to",
    read=read_date,
    schema={"type": "string", "format": "date"},
    description="Last day, inclusive; by default today in UTC, and at most 3 years later than `from`.",
    example="2026-11-22",
)


class Signups:
    """Sign-ups by day."""

    path: ClassVar = "/stats/signups"
    method: ClassVar = "GET"
    projection: ClassVar = signups.SCHEMA.name
    parameters: ClassVar = Parameters((FROM, TO))

    def __init__(self, consistent: ConsistentReads, reader: Reader, *, now: Callable[[], datetime]) -> None:
        """`now` says which day is today."""
        self._consistent = consistent
        self._reader = reader
        self._now = now

    async def answer(self, exchange: QueryExchange) -> QueryAnswer:
        """One entry for each day of the period, oldest first, also for days without sign-ups."""
        exchange.require_acceptable()
        first, last = period(self.parameters.read(exchange.query), today=self._now().astimezone(UTC).date())

        async def attempt(view: View, wanted: WantedVersions) -> QueryAnswer | None:
            arguments = [first, last, list(wanted), list(wanted.values())]
            rows = await self._reader.fetch(_sql(view.generation), arguments)
            return None if rows and rows[0][0] is None else _answer(exchange, view, rows, first, last)

        return await self._consistent.read_when_fresh(exchange, self.projection, attempt)


def period(values: Mapping[str, Any], *, today: date) -> tuple[date, date]:
    """The first and the last day of the period that the client asks for.

    Raises:
        Problem: 422, the period is backwards or longer than MOST_DAYS_BETWEEN.
    """
    last: date = values.get("to", today)
    first: date = values["from"] if "from" in values else _days_before(last, DEFAULT_DAYS - 1)
    if first > last:
        raise invalid_parameter("from", f"is later than to ({last})")
    if (last - first).days > MOST_DAYS_BETWEEN:
        raise invalid_parameter("from", f"is more than 3 years before to ({last})")
    return first, last


def _days_before(day: date, days: int) -> date:
    """The day that many days earlier, or the first day there is."""
    return date.fromordinal(max(day.toordinal() - days, date.min.toordinal()))


@lru_cache(maxsize=8)  # generations that serve during one process's life
def _sql(generation: int) -> str:
    """The days that have counters; if the tokens are not reached, one row of nulls instead."""
    tables = signups.signups_tables(generation)
    no_day = "NULL::date AS day, NULL::bigint AS active, NULL::bigint AS deactivated"
    days = f"SELECT day, active, deactivated FROM {tables.days.name} WHERE day BETWEEN $1 AND $2 AND {NOT_BEHIND}"  # noqa: S608
    return unless_behind(tables, "$3", "$4", else_row=no_day, read=days)


def _answer(exchange: QueryExchange, view: View, rows: FetchedRows, first: date, last: date) -> QueryAnswer:
    counted = {row[0]: (row[1], row[2]) for row in rows}
    entries = (
        '{{"day":"{}","active":{},"deactivated":{}}}'.format(day, *counted.get(day, (0, 0)))
        for day in _days(first, last)
    )
    body = f'{{"data":[{",".join(entries)}]}}'.encode("ascii")
    return QueryAnswer(body, [NO_STORE, *exchange.fresh_headers(view.as_of)])


def _days(first: date, last: date) -> Iterator[date]:
    return (first + timedelta(days=number) for number in range((last - first).days + 1))
