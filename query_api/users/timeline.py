"""GET /users/{id}/timeline: what happened to one user, newest first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final
from uuid import UUID

from chassis.consistency import ConsistencyToken
from chassis.http.problems import NOT_FOUND, Problem
from query_api.dependencies import Resources
from query_api.protocol.exchange import NO_STORE, VARY, Answer, Exchange, RawHeaders
from query_api.protocol.pagination import (
    CURSOR,
    DEFAULT_LIMIT,
    LIMIT,
    Page,
    Place,
    open_place,
    put_together,
    seal_place,
)
from query_api.protocol.parameters import Parameters, path_id
from query_api.reading.consistency import behind_sql, read_when_fresh, wanted_versions
from query_api.reading.reader import Rows
from query_api.reading.serving import View
from read_model import timeline

PATH: Final = "/users/{id}/timeline"
PROJECTION: Final = timeline.PROJECTION
PARAMETERS: Final = Parameters((LIMIT, CURSOR))
_ORDER: Final = "-version"
_VERSION_BYTES: Final = 8
#: Before the first page: greater than any version.
_NEWEST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class TimelineRequest:
    """Whose timeline, and which part of it."""

    user_id: UUID
    limit: int
    before: int

    @property
    def address(self) -> bytes:
        """What its cursors are bound to: no other user's timeline takes them."""
        return b"timeline:" + self.user_id.bytes


async def answer(exchange: Exchange, resources: Resources) -> Answer:
    """A page of entries and the token of the newest version the timeline has; 404 for who is not, or no longer."""
    exchange.require_acceptable()
    request = read_request(exchange, resources)
    wanted = wanted_versions(exchange)

    async def attempt() -> Answer | None:
        view = resources.serving.view(PROJECTION)
        arguments = [request.user_id, request.before, request.limit + 1, list(wanted), list(wanted.values())]
        head, *entries = await resources.reader.fetch(_sql(view.generation), arguments)
        if head[2]:
            return None
        if head[1] is None:
            raise Problem(NOT_FOUND, "there is no user with this id (any more)")
        page = _page(resources, request, entries)
        link = page.link(PATH.replace("{id}", str(request.user_id)), request.limit)
        return Answer(page.body, [*_headers(exchange, view, request, head[1]), *link])

    return await read_when_fresh(
        attempt, wanted=wanted, exchange=exchange, arrivals=resources.arrivals, projection=PROJECTION
    )


def read_request(exchange: Exchange, resources: Resources) -> TimelineRequest:
    """Read path and query string.

    Raises:
        Problem: 422, or 400 `invalid-cursor`.
    """
    user_id = path_id(exchange.path_id)
    values = PARAMETERS.read(exchange.query)
    first = TimelineRequest(user_id, values.get("limit", DEFAULT_LIMIT), _NEWEST)
    if "cursor" not in values:
        return first
    place = open_place(resources.cursors, values["cursor"], address=first.address)
    return replace(first, before=int.from_bytes(place.position, "big"))


@lru_cache(maxsize=8)  # generations that serve during one process's life
def _sql(generation: int) -> str:
    """First a row that says where the user stands and whether the tokens are reached, then the entries.

    A user whose newest event is the erasure has no version here.
    """
    tables = timeline.timeline_tables(generation)
    head = f"SELECT version FROM {tables.users.name} WHERE id = $1 AND erased_version IS DISTINCT FROM version"  # noqa: S608
    return (
        f"SELECT NULL::bytea AS document, ({head}) AS version, {behind_sql('$4', '$5', tables.users.name)} AS is_behind"  # noqa: S608
        f" UNION ALL (SELECT document, version, NULL FROM {tables.entries.name}"
        " WHERE user_id = $1 AND version < $2 ORDER BY version DESC LIMIT $3)"
    )


def _headers(exchange: Exchange, view: View, request: TimelineRequest, version: int) -> RawHeaders:
    token = ConsistencyToken(request.user_id, version).encode().encode("ascii")
    applied = exchange.applied(waited=exchange.has(b"consistency-token"))
    return [NO_STORE, VARY, (b"as-of", view.as_of), (b"consistency-token", token), *applied]


def _page(resources: Resources, request: TimelineRequest, rows: Rows) -> Page:
    shown = b",".join([row[0] for row in rows[: request.limit]])
    if len(rows) <= request.limit:
        return put_together(shown, None)
    position = int(rows[request.limit - 1][1]).to_bytes(_VERSION_BYTES, "big")
    return put_together(shown, seal_place(resources.cursors, Place(_ORDER, {}, position), address=request.address))
