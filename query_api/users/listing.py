"""GET /users: a page of users, by any sort and any filters."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, ClassVar, Final, NamedTuple

from chassis.http.problems import invalid_parameter
from query_api.protocol.cursors import CursorSeal
from query_api.protocol.exchange import NO_STORE, VARY, QueryAnswer, QueryExchange, RawHeaders
from query_api.protocol.pagination import CURSOR, DEFAULT_LIMIT, LIMIT, SKIP
from query_api.protocol.parameters import Parameters
from query_api.protocol.problems import COUNT_TOO_EXPENSIVE, invalid_cursor
from query_api.reading.consistency import ConsistentReads
from query_api.reading.reader import Reader
from query_api.reading.serving import View
from query_api.reading.versions import WantedVersions
from query_api.users.filters import DEFAULT_SORT, FILTER_NAMES, FILTERS, SORT, Filters
from query_api.users.page_reads import PageReads
from query_api.users.places import PagePlace, open_cursor
from query_api.users.statements import conditions, count_sql
from read_model import users

#: The first pages that clients ask for are few and always the same; without a cursor they are shorter than this.
_SHORT_QUERY_BYTES: Final = 100


class UserList:
    """The list of users."""

    path: ClassVar = "/users"
    method: ClassVar = "GET"
    projection: ClassVar = users.SCHEMA.name
    parameters: ClassVar = Parameters((LIMIT, CURSOR, SKIP, SORT, *FILTERS))

    def __init__(self, consistent: ConsistentReads, reader: Reader, seal: CursorSeal, *, count_ms: int) -> None:
        """Counting all matches may take `count_ms`."""
        self._consistent = consistent
        self._reader = reader
        self._pages = PageReads(reader, seal)
        self._seal = seal
        self._count_ms = count_ms

    async def answer(self, exchange: QueryExchange) -> QueryAnswer:
        """The page, with a Link to the next one if there is one, and the count if the client asked for it."""
        exchange.require_acceptable()
        query = exchange.query
        return await self._answer(exchange, _read_short(query) if len(query) <= _SHORT_QUERY_BYTES else _read(query))

    async def answer_values(self, exchange: QueryExchange, values: Mapping[str, Any]) -> QueryAnswer:
        """The same for parameters that were read elsewhere."""
        return await self._answer(exchange, _sent(values))

    async def _answer(self, exchange: QueryExchange, sent: _Sent) -> QueryAnswer:
        limit, skip, place = _request_of(sent, self._seal)

        async def attempt(view: View, wanted: WantedVersions) -> QueryAnswer | None:
            page = await self._pages.read_page(view.generation, place, limit=limit, skip=skip, wanted=wanted)
            if page is None:
                return None
            counted = await self._count(view, place.filters) if exchange.preferences.count_exact else []
            applied = exchange.applied(waited=bool(wanted), counted=bool(counted))
            as_of = (b"as-of", view.as_of)
            headers = [NO_STORE, VARY, as_of, *page.link(self.path, limit), *counted, *applied]
            return QueryAnswer(page.body, headers)

        return await self._consistent.read_when_fresh(exchange, self.projection, attempt)

    async def _count(self, view: View, filters: Filters) -> RawHeaders:
        names, values = conditions(filters)
        [(number,)] = await self._reader.fetch_limited(
            count_sql(view.generation, names), values, limit_ms=self._count_ms, too_slow=COUNT_TOO_EXPENSIVE
        )
        return [(b"x-total-count", b"%d" % number)]


class _ListRequest(NamedTuple):
    limit: int
    skip: int
    place: PagePlace


def _request_of(sent: _Sent, seal: CursorSeal) -> _ListRequest:
    """The page that is meant; with a cursor, sort and filters are the cursor's.

    Raises:
        Problem: 422, or 400 `invalid-cursor`.
    """
    if sent.cursor is None:
        return _ListRequest(sent.limit, sent.skip or 0, PagePlace(sent.sort or DEFAULT_SORT, sent.filters, b""))
    if sent.skip is not None:
        raise invalid_parameter("skip", "cannot be used together with cursor")
    place = open_cursor(sent.cursor, seal)
    if sent.sort not in (None, place.sort):
        raise invalid_cursor(f"was made for sort={place.sort}")
    for name, value in sent.filters.items():
        if place.filters.get(name) != value:
            raise invalid_cursor(f"was made for another {name}")
    return _ListRequest(sent.limit, 0, place)


class _Sent(NamedTuple):
    """The parameters as the client sent them."""

    limit: int
    skip: int | None
    cursor: str | None
    sort: str | None
    filters: Filters


def _read(query: bytes) -> _Sent:
    return _sent(UserList.parameters.read(query))


def _sent(values: Mapping[str, Any]) -> _Sent:
    filters = {name: _fixed(values[name]) for name in FILTER_NAMES if name in values} if values else {}
    return _Sent(
        values.get("limit", DEFAULT_LIMIT), values.get("skip"), values.get("cursor"), values.get("sort"), filters
    )


_read_short = lru_cache(maxsize=512)(_read)


def _fixed(value: Any) -> Any:
    """Several ids as a set in a fixed order, so that cursors compare equal in whatever order the ids are sent."""
    return tuple(sorted(set(value))) if isinstance(value, list) else value
