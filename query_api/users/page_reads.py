"""Pages along a sort's index, gathered: those that are asked for in one turn of the loop become one statement.

Pages of one kind (sort, filters, size) differ in where they begin only; the first of them is the same for all who ask.
Eight pages in one statement cost this process half, and PostgreSQL less than half, of what they cost one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from query_api.protocol.cursors import CursorSeal
from query_api.protocol.pagination import Page, Place, put_together, seal_place
from query_api.reading.coalescing import Gathering
from query_api.reading.reader import Reader, Rows
from query_api.users.filters import SORTS
from query_api.users.statements import Shape, page_statement, pages_statement

#: What the cursors of lists of users are bound to.
ADDRESS: Final = b"users"
#: Pages in one statement: half a millisecond of PostgreSQL's time. With sixteen, thirty clients were two batches that
#: went in step, and this process and PostgreSQL waited for each other in turns.
BATCH_PAGES: Final = 8
#: Batches that may queue: full ones are two seconds of work.
QUEUED_BATCHES: Final = 1200
_ID_BYTES: Final = 16
#: What PostgreSQL counts its microseconds from.
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


class Kind(NamedTuple):
    """What pages have in common that can be read together."""

    shape: Shape
    #: Of the filters.
    values: tuple[Any, ...]
    limit: int


class PageReads:
    """Reads pages, many askers at a time."""

    def __init__(self, reader: Reader, seal: CursorSeal) -> None:
        """Nothing runs until somebody asks."""
        self._reader = reader
        self._seal = seal
        self._gathering: Gathering[Kind, Place, Page] = Gathering(self._read, batch=BATCH_PAGES, queued=QUEUED_BATCHES)

    async def read(self, kind: Kind, place: Place) -> Page:
        """The page of that kind at that place.

        Raises:
            DatabaseUnavailableError: no connection, or the query failed.
            Problem: 503, the query took too long.
        """
        # Nobody's own is left of a page that all share: it fills no batch.
        return await self._gathering.ask(kind, place, size=1 if kind.shape.after else 0)

    async def _read(self, kind: Kind, places: Sequence[Place]) -> Sequence[Page]:
        if not kind.shape.after:
            rows = await self._reader.fetch(page_statement(kind.shape).sql, [*kind.values, kind.limit + 1])
            return [understand(self._seal, rows, kind.limit, places[0])] * len(places)
        different = {place.position: place for place in places}
        keys, ids = zip(*map(position, different.values()), strict=True)
        rows = await self._reader.fetch(pages_statement(kind.shape), [*kind.values, keys, ids, kind.limit + 1])
        pages = {place.position: self._page(place, *row) for row, place in zip(rows, different.values(), strict=True)}
        return [pages[place.position] for place in places]

    def _page(self, place: Place, documents: bytes | None, beyond: int | None, last: bytes) -> Page:
        if documents is None or beyond is None:
            return put_together(documents or b"", None)
        return put_together(documents[: -beyond - len(b",")], _following(self._seal, place, last))


def position(place: Place) -> tuple[datetime | str, UUID]:
    """The sort key and the id after which a page begins."""
    identifier, key = UUID(bytes=place.position[:_ID_BYTES]), place.position[_ID_BYTES:]
    if SORTS[place.sort].is_time:
        return _EPOCH + timedelta(microseconds=int.from_bytes(key, "big", signed=True)), identifier
    return key.decode(), identifier


def understand(seal: CursorSeal, rows: Rows, limit: int, place: Place) -> Page:
    """The page from rows of (document, position), one more than shown where there are so many."""
    shown = b",".join([row[0] for row in rows[:limit]])
    return put_together(shown, _following(seal, place, rows[limit - 1][1]) if len(rows) > limit else None)


def _following(seal: CursorSeal, place: Place, last: bytes) -> str:
    """The cursor of the next page."""
    return seal_place(seal, Place(place.sort, place.filters, last), address=ADDRESS)
