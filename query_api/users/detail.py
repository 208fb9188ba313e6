"""GET /users/{id}: one user, as the projection last saw it."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from starlette.status import HTTP_304_NOT_MODIFIED

from chassis.consistency import ConsistencyToken
from chassis.http.problems import NOT_FOUND, Problem
from query_api.dependencies import Resources
from query_api.protocol.exchange import VARY, Answer, Exchange, RawHeaders
from query_api.protocol.parameters import Parameters, path_id
from query_api.reading.consistency import Wanted, read_when_fresh, wanted_versions
from query_api.reading.serving import View
from query_api.users.detail_reads import Rows, UserRow
from read_model import users

PATH: Final = "/users/{id}"
PROJECTION: Final = users.PROJECTION
PARAMETERS: Final = Parameters(())
#: May be kept by the one who asked, but must be asked about before it is used again.
_REVALIDATE: Final = (b"cache-control", b"private, no-cache")


async def answer(exchange: Exchange, resources: Resources) -> Answer:
    """The user's stored document, or 304 where the client has it; 404 where there is none or no longer."""
    exchange.require_acceptable()
    identifier = path_id(exchange.path_id)
    PARAMETERS.read(exchange.query)
    wanted = wanted_versions(exchange)
    if not wanted:
        view = resources.serving.view(PROJECTION)
        rows = await resources.user_reads.read(view, (identifier,))
        return _answer(exchange, view, identifier, rows)

    async def attempt() -> Answer | None:
        view = resources.serving.view(PROJECTION)
        # Asked for together, so that they come from one statement and its snapshot.
        rows = await resources.user_reads.read(view, (identifier, *wanted), with_erased=True)
        return _answer(exchange, view, identifier, rows) if _is_fresh(wanted, rows) else None

    return await read_when_fresh(
        attempt, wanted=wanted, exchange=exchange, arrivals=resources.arrivals, projection=PROJECTION
    )


def _is_fresh(wanted: Wanted, rows: Rows) -> bool:
    return all(identifier in rows and rows[identifier].version >= version for identifier, version in wanted.items())


def _answer(exchange: Exchange, view: View, identifier: UUID, rows: Rows) -> Answer:
    row = rows.get(identifier)
    if row is None or row.document is None:
        raise Problem(NOT_FOUND, "there is no user with this id (any more)")
    etag = f'"{row.version}.{view.shape}"'
    headers = [*_headers(exchange, view, identifier, row), (b"etag", etag.encode("ascii"))]
    known = exchange.header(b"if-none-match")
    if known and names_tag(known, etag):
        return Answer(b"", headers, status=HTTP_304_NOT_MODIFIED)
    return Answer(row.document, headers)


def _headers(exchange: Exchange, view: View, identifier: UUID, row: UserRow) -> RawHeaders:
    token = ConsistencyToken(identifier, row.version).encode().encode("ascii")
    waited = exchange.has(b"consistency-token")
    return [
        _REVALIDATE,
        VARY,
        (b"as-of", view.as_of),
        (b"consistency-token", token),
        *exchange.applied(waited=waited),
    ]


def names_tag(header: str, etag: str) -> bool:
    """Whether If-None-Match names the tag: weak comparison (RFC 9110, section 13.1.2), `*` names every one."""
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in header.split(","))
