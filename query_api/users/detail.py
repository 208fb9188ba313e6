"""GET /users/{id}: one user, as the projection last saw it."""

from __future__ import annotations

from typing import ClassVar, Final
from uuid import UUID

from starlette.status import HTTP_304_NOT_MODIFIED

from chassis.consistency import ConsistencyToken
from chassis.http.problems import NOT_FOUND, Problem
from query_api.protocol.exchange import CONSISTENCY_TOKEN, QueryAnswer, QueryExchange
from query_api.protocol.parameters import Parameters, path_id
from query_api.reading.consistency import ConsistentReads
from query_api.reading.reader import Reader
from query_api.reading.serving import View
from query_api.reading.versions import WantedVersions
from query_api.users.detail_reads import UserReads, UserRows
from read_model import users

#: The client may keep the answer, but must ask again before using it.
_REVALIDATE: Final = (b"cache-control", b"private, no-cache")


class UserDetail:
    """One user."""

    path: ClassVar = "/users/{id}"
    method: ClassVar = "GET"
    projection: ClassVar = users.SCHEMA.name
    parameters: ClassVar = Parameters(())

    def __init__(self, consistent: ConsistentReads, reader: Reader) -> None:
        """Many users who are asked for at once are read by one statement."""
        self._consistent = consistent
        self._users = UserReads(reader)

    async def answer(self, exchange: QueryExchange) -> QueryAnswer:
        """The user's stored document, or 304 if the client has it; 404 if there is no such user (any more)."""
        exchange.require_acceptable()
        identifier = exchange.access.visible(path_id(exchange.path_id))
        self.parameters.read(exchange.query)

        async def attempt(view: View, wanted: WantedVersions) -> QueryAnswer | None:
            # The user and those of the tokens together, so that they come from one statement and its snapshot.
            rows = await self._users.read_users(view.generation, (identifier, *wanted), with_erased=bool(wanted))
            return _answer(exchange, view, identifier, rows) if _is_fresh(wanted, rows) else None

        return await self._consistent.read_when_fresh(exchange, self.projection, attempt)


def _is_fresh(wanted: WantedVersions, rows: UserRows) -> bool:
    return not wanted or all(
        identifier in rows and rows[identifier].version >= version for identifier, version in wanted.items()
    )


def _answer(exchange: QueryExchange, view: View, identifier: UUID, rows: UserRows) -> QueryAnswer:
    row = rows.get(identifier)
    if row is None or row.document is None:
        raise Problem(NOT_FOUND, "there is no user with this id (any more)")
    etag = f'"{row.version}.{view.shape}"'
    headers = [
        _REVALIDATE,
        *exchange.fresh_headers(view.as_of),
        (CONSISTENCY_TOKEN, ConsistencyToken(identifier, row.version).encode().encode("ascii")),
        (b"etag", etag.encode("ascii")),
    ]
    known = exchange.header(b"if-none-match")
    if known and names_tag(known, etag):
        return QueryAnswer(b"", headers, status=HTTP_304_NOT_MODIFIED)
    return QueryAnswer(row.document, headers)


def names_tag(header: str, etag: str) -> bool:
    """Whether If-None-Match names the tag: weak comparison (RFC 9110, section 13.1.2), `*` names every one."""
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in header.split(","))
