"""GET /users/{id}/timeline: what happened to one user, newest first.

Versions whose entries are not there, because the log lost their events and nobody had read them, are shown as one gap.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import ClassVar, Final, NamedTuple
from uuid import UUID

import asyncpg

from chassis.clock import rfc3339
from chassis.consistency import ConsistencyToken
from chassis.http.problems import NOT_FOUND, Problem
from query_api.protocol.cursors import CursorSeal
from query_api.protocol.exchange import CONSISTENCY_TOKEN, NO_STORE, QueryAnswer, QueryExchange, RawHeaders
from query_api.protocol.pagination import CURSOR, DEFAULT_LIMIT, LIMIT, Page
from query_api.protocol.parameters import Parameters, path_id
from query_api.reading.consistency import ConsistentReads
from query_api.reading.database import FetchedRows
from query_api.reading.reader import Reader
from query_api.reading.serving import View
from query_api.reading.versions import WantedVersions, behind_sql
from read_model import timeline

#: A cursor holds this, and then the version before which its page begins.
_CURSOR_PREFIX: Final = b'["-version",{}]\0'
_VERSION_BYTES: Final = 8
#: The members of an entry that are not in its document, and their columns.
_CAME: Final = {
    "actor": "actor",
    "on_behalf_of": "on_behalf_of",
    "partition": "partition",
    "offset": "record_offset",
    "committed_at": "committed_at",
    "published_at": "published_at",
    "applied_at": "applied_at",
}
#: The first page begins here: greater than any version.
_NEWEST: Final = 2**63 - 1


class _Shown(NamedTuple):
    """An entry or a gap."""

    document: bytes
    #: The oldest version that it tells of: the next page begins before it.
    version: int


class UserTimeline:
    """The timeline of one user."""

    path: ClassVar = "/users/{id}/timeline"
    method: ClassVar = "GET"
    projection: ClassVar = timeline.SCHEMA.name
    parameters: ClassVar = Parameters((LIMIT, CURSOR))

    def __init__(self, consistent: ConsistentReads, reader: Reader, seal: CursorSeal) -> None:
        """Cursors are sealed with `seal`."""
        self._consistent = consistent
        self._reader = reader
        self._seal = seal

    async def answer(self, exchange: QueryExchange) -> QueryAnswer:
        """A page of entries and the token of the newest version in the timeline; 404 for no user (any more)."""
        exchange.require_acceptable()
        user_id = exchange.access.visible(path_id(exchange.path_id))
        values = self.parameters.read(exchange.query)
        limit = values.get("limit", DEFAULT_LIMIT)
        before = self._open_cursor(values["cursor"], user_id) if "cursor" in values else _NEWEST

        async def attempt(view: View, wanted: WantedVersions) -> QueryAnswer | None:
            arguments = [user_id, before, limit + 1, list(wanted), list(wanted.values())]
            head, *entries = await self._reader.fetch(_sql(view.generation), arguments)
            if head[2]:
                return None
            if head[1] is None:
                raise Problem(NOT_FOUND, "there is no user with this id (any more)")
            shown = _with_gaps(entries, min(before, head[1] + 1), whole=len(entries) <= limit)
            page = self._page(user_id, list(islice(shown, limit + 1)), limit)
            link = page.link(self.path.replace("{id}", str(user_id)), limit)
            return QueryAnswer(page.body, [*_headers(exchange, view, user_id, head[1]), *link])

        return await self._consistent.read_when_fresh(exchange, self.projection, attempt)

    def _page(self, user_id: UUID, found: list[_Shown], limit: int) -> Page:
        documents = b",".join(shown.document for shown in found[:limit])
        return Page.of(documents, self._seal_cursor(found[limit - 1].version, user_id) if len(found) > limit else None)

    def _seal_cursor(self, version: int, user_id: UUID) -> str:
        content = _CURSOR_PREFIX + version.to_bytes(_VERSION_BYTES, "big")
        return self._seal.seal(content, bound_to=_list_of(user_id))

    def _open_cursor(self, cursor: str, user_id: UUID) -> int:
        content = self._seal.open(cursor, bound_to=_list_of(user_id))
        return int.from_bytes(content.removeprefix(_CURSOR_PREFIX), "big")


def _list_of(user_id: UUID) -> bytes:
    """The text that cursors are bound to: no other user's timeline takes them."""
    return b"timeline:" + user_id.bytes


def _with_gaps(rows: FetchedRows, before: int, *, whole: bool) -> Iterator[_Shown]:
    """The entries of rows, newest first, from the version before `before` on, and a gap wherever versions are missing.

    `whole` says that the rows are all that there are.
    """
    for row in rows:
        version: int = row[1]
        yield from _gap(version + 1, before - 1)
        yield _Shown(_entry(row), version)
        before = version
    if whole:
        yield from _gap(1, before - 1)


def _gap(first: int, last: int) -> Iterator[_Shown]:
    if first <= last:
        yield _Shown(b'{"event":"gap","from_version":%d,"to_version":%d}' % (first, last), first)


def _entry(row: asyncpg.Record) -> bytes:
    """The change, as it is stored, and behind it who changed it and how the event came here."""
    document, _, _, *more = row
    came = {
        name: rfc3339(value) if isinstance(value, datetime) else value for name, value in zip(_CAME, more, strict=True)
    }
    return b"%b,%b" % (document[:-1], json.dumps(came, separators=(",", ":")).encode()[1:])


@lru_cache(maxsize=8)  # generations that serve during one process's life
def _sql(generation: int) -> str:
    """First a row with the user's version and whether the tokens are not reached, then the entries.

    A user whose newest event is the erasure has no version here.
    """
    tables = timeline.timeline_tables(generation)
    head = f"SELECT version FROM {tables.users.name} WHERE id = $1 AND erased_version IS DISTINCT FROM version"  # noqa: S608
    return (
        f"SELECT NULL::bytea AS document, ({head}) AS version, {behind_sql(tables, '$4', '$5')} AS is_behind,"  # noqa: S608
        f" {', '.join(['NULL'] * len(_CAME))} UNION ALL (SELECT document, version, NULL, {', '.join(_CAME.values())}"
        f" FROM {tables.entries.name}"
        " WHERE user_id = $1 AND version < $2 ORDER BY version DESC LIMIT $3)"
    )


def _headers(exchange: QueryExchange, view: View, user_id: UUID, version: int) -> RawHeaders:
    token = ConsistencyToken(user_id, version).encode().encode("ascii")
    return [NO_STORE, *exchange.fresh_headers(view.as_of), (CONSISTENCY_TOKEN, token)]
