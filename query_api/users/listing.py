"""GET /users: a page of users, by any sort and any filters."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final, NamedTuple

from chassis.http.problems import invalid_parameter
from query_api.dependencies import Resources
from query_api.protocol.exchange import NO_STORE, VARY, Answer, Exchange, RawHeaders
from query_api.protocol.pagination import CURSOR, DEFAULT_LIMIT, LIMIT, SKIP, Filters, Page, Place, open_place
from query_api.protocol.parameters import Parameters
from query_api.protocol.problems import COUNT_TOO_EXPENSIVE, invalid_cursor
from query_api.reading.consistency import Wanted, read_when_fresh, wanted_versions
from query_api.reading.reader import Rows
from query_api.reading.serving import View
from query_api.users.filters import DEFAULT_SORT, FILTER_NAMES, FILTERS, SORT, after_prefix
from query_api.users.page_reads import ADDRESS, Kind, position, understand
from query_api.users.statements import Shape, count_statement, is_walked, page_statement
from read_model import users

PATH: Final = "/users"
PROJECTION: Final = users.PROJECTION
PARAMETERS: Final = Parameters((LIMIT, CURSOR, SKIP, SORT, *FILTERS))


class ListRequest(NamedTuple):
    """What the client asks for, read and checked."""

    limit: int
    skip: int
    place: Place

    @property
    def filters(self) -> Filters:
        """The filters by name."""
        return self.place.filters


async def answer(exchange: Exchange, resources: Resources) -> Answer:
    """The page, with its Link where there is a next one, and the count where it was asked for."""
    exchange.require_acceptable()
    wanted = wanted_versions(exchange)
    request = read_request(exchange.query, resources)

    async def attempt() -> Answer | None:
        view = resources.serving.view(PROJECTION)
        page = await _page(resources, view, request, wanted)
        if page is None:
            return None
        counted = await _count(resources, view, request) if exchange.preferences.count_exact else []
        applied = exchange.applied(waited=bool(wanted), counted=bool(counted))
        as_of = (b"as-of", view.as_of)
        return Answer(page.body, [NO_STORE, VARY, as_of, *page.link(PATH, request.limit), *counted, *applied])

    return await read_when_fresh(
        attempt, wanted=wanted, exchange=exchange, arrivals=resources.arrivals, projection=PROJECTION
    )


def read_request(query: bytes, resources: Resources) -> ListRequest:
    """Read the query string; with a cursor, sort and filters are the cursor's.

    Raises:
        Problem: 422, 400 `invalid-cursor` or `skip-too-deep`.
    """
    given = _read_short(query) if len(query) <= _SHORT_QUERY_BYTES else _read(query)
    if given.cursor is None:
        return ListRequest(given.limit, given.skip or 0, Place(given.sort or DEFAULT_SORT, given.filters, b""))
    if given.skip is not None:
        raise invalid_parameter("skip", "cannot be used together with cursor")
    place = open_place(resources.cursors, given.cursor, address=ADDRESS)
    if given.sort not in (None, place.sort):
        raise invalid_cursor(f"was made for sort={place.sort}")
    for name, value in given.filters.items():
        if place.filters.get(name) != value:
            raise invalid_cursor(f"was made for another {name}")
    return ListRequest(given.limit, 0, place)


class _Given(NamedTuple):
    """The parameters as they were sent."""

    limit: int
    skip: int | None
    cursor: str | None
    sort: str | None
    filters: Filters


def _read(query: bytes) -> _Given:
    values = PARAMETERS.read(query)
    filters = {name: _fixed(values[name]) for name in FILTER_NAMES if name in values} if values else {}
    return _Given(
        values.get("limit", DEFAULT_LIMIT), values.get("skip"), values.get("cursor"), values.get("sort"), filters
    )


#: The first pages that clients ask for are few and always the same; without a cursor they are shorter than this.
_SHORT_QUERY_BYTES: Final = 100
_read_short = lru_cache(maxsize=512)(_read)


def _fixed(value: Any) -> Any:
    """Several ids as a set in a fixed order, so that a cursor compares equal however they were given."""
    return tuple(sorted(set(value))) if isinstance(value, list) else value


async def _page(resources: Resources, view: View, request: ListRequest, wanted: Wanted) -> Page | None:
    """The page, read with one row more where there are so many; None where the tokens are not reached."""
    place = request.place
    names, values = conditions(request.filters)
    shape = Shape(view.generation, place.sort, names, bool(place.position), bool(request.skip), bool(wanted))
    if is_walked(shape):
        return await resources.page_reads.read(Kind(shape, tuple(values), request.limit), place)
    statement = page_statement(shape)
    arguments = [*values, *(position(place) if place.position else ()), request.limit + 1]
    if request.skip:
        arguments.append(request.skip)
    if wanted:
        arguments += [list(wanted), list(wanted.values())]

    def page_of(rows: Rows) -> Page | None:
        return None if rows and rows[0][0] is None else understand(resources.cursors, rows, request.limit, place)

    return await resources.reader.fetch_as(page_of, statement.sql, arguments, plan_each_time=statement.plan_each_time)


async def _count(resources: Resources, view: View, request: ListRequest) -> RawHeaders:
    names, values = conditions(request.filters)
    number = await resources.reader.count(
        count_statement(view.generation, names),
        values,
        limit_ms=resources.settings.query_count_ms,
        too_slow=COUNT_TOO_EXPENSIVE,
    )
    return [(b"x-total-count", b"%d" % number)]


def conditions(filters: Filters) -> tuple[tuple[str, ...], list[Any]]:
    """The names of the conditions (user_filters.CONDITIONS) and their values, in the order of both."""
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
