"""Reads of pages of users; those along a sort's index are coalesced: one statement reads many of them.

Coalesced pages have sort, filters and size in common, and differ only in where they begin; the first page is the same
for all who ask. Read by one statement, eight pages cost this process half, and PostgreSQL less than half.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from query_api.protocol.cursors import CursorSeal
from query_api.protocol.pagination import Page
from query_api.reading.coalescing import Coalescer
from query_api.reading.database import FetchedRows
from query_api.reading.reader import Reader
from query_api.reading.versions import WantedVersions
from query_api.users.places import PagePlace
from query_api.users.statements import PageShape, is_walked, page_sql, pages_sql

#: Pages in one statement: half a millisecond of PostgreSQL's time. With sixteen, thirty clients were two batches that
#: went in step, and this process and PostgreSQL waited for each other in turns.
BATCH_PAGES: Final = 8
#: Batches that may queue: full ones are two seconds of work.
QUEUED_BATCHES: Final = 1200


class _PageKey(NamedTuple):
    """The key of pages that are coalesced."""

    shape: PageShape
    #: The values of the conditions.
    values: tuple[Any, ...]
    limit: int


class PageReads:
    """Reads pages for many askers at once."""

    def __init__(self, reader: Reader, seal: CursorSeal) -> None:
        """Nothing runs until somebody asks."""
        self._reader = reader
        self._seal = seal
        self._coalescer: Coalescer[_PageKey, PagePlace, Page] = Coalescer(
            self._read_batch, batch=BATCH_PAGES, queued=QUEUED_BATCHES
        )

    async def read_page(
        self, generation: int, place: PagePlace, *, limit: int, skip: int = 0, wanted: WantedVersions | None = None
    ) -> Page | None:
        """The page at that place; None if the generation has not reached the wanted versions.

        Raises:
            DatabaseUnavailableError: there was no connection, or the query failed.
            Problem: 503, the query took too long.
        """
        shape, values = PageShape.of(generation, place, skip=bool(skip), tokens=bool(wanted))
        if is_walked(shape):
            # A first page that all share fills no batch.
            return await self._coalescer.ask(_PageKey(shape, tuple(values), limit), place, size=1 if shape.after else 0)
        arguments = [*values, *(place.after if shape.after else ()), limit + 1]
        if skip:
            arguments.append(skip)
        if wanted:
            arguments += [list(wanted), list(wanted.values())]
        sql = page_sql(shape)
        rows = await self._reader.fetch(sql.text, arguments, plan_each_time=sql.plan_each_time)
        return None if rows and rows[0][0] is None else self._page(place, rows, limit)

    async def _read_batch(self, key: _PageKey, places: Sequence[PagePlace]) -> Sequence[Page]:
        if not key.shape.after:
            rows = await self._reader.fetch(page_sql(key.shape).text, [*key.values, key.limit + 1])
            return [self._page(places[0], rows, key.limit)] * len(places)
        different = {place.position: place for place in places}
        keys, ids = zip(*(place.after for place in different.values()), strict=True)
        rows = await self._reader.fetch(pages_sql(key.shape), [*key.values, keys, ids, key.limit + 1])
        pages = {
            place.position: self._joined_page(place, *row) for row, place in zip(rows, different.values(), strict=True)
        }
        return [pages[place.position] for place in places]

    def _page(self, place: PagePlace, rows: FetchedRows, limit: int) -> Page:
        """The page of rows of (document, position), one more than is shown if there are so many."""
        documents = b",".join([row[0] for row in rows[:limit]])
        return Page.of(documents, place.next_cursor(rows[limit - 1][1], self._seal) if len(rows) > limit else None)

    def _joined_page(self, place: PagePlace, documents: bytes | None, beyond: int | None, last: bytes) -> Page:
        """The page of a row of `pages_sql`."""
        if documents is None or beyond is None:
            return Page.of(documents or b"", None)
        return Page.of(documents[: -beyond - len(b",")], place.next_cursor(last, self._seal))
