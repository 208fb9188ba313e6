"""How far users have come, asked at once for all who wait for them (arrivals.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final
from uuid import UUID

from sqlalchemy import Table

from query_api.reading.reader import Reader
from query_api.reading.serving import Serving
from query_api.reading.waiters import Wanted
from read_model import signups, timeline, users

#: The tables in which a projection's versions stand, of a generation.
_TABLES: Final[dict[str, Callable[[int], tuple[Table, ...]]]] = {
    users.PROJECTION: lambda generation: (
        users.users_tables(generation).users,
        users.users_tables(generation).erased,
    ),
    timeline.PROJECTION: lambda generation: (timeline.timeline_tables(generation).users,),
    signups.PROJECTION: lambda generation: (signups.signups_tables(generation).users,),
}


class Looks:
    """One statement for all of them."""

    def __init__(self, reader: Reader, serving: Serving) -> None:
        """Look at the generation that is read."""
        self._reader = reader
        self._serving = serving

    async def look(self, projection: str, wanted: Wanted) -> Iterable[tuple[UUID, int]]:
        """Those that have the wanted version or a later one, with the version they have.

        Raises:
            DatabaseUnavailableError: no connection, or it failed.
            Problem: 503, no generation can be read, or it took too long.
        """
        sql = _sql(projection, self._serving.view(projection).generation)
        rows = await self._reader.fetch(sql, [list(wanted), list(wanted.values())])
        return [(row[0], row[1]) for row in rows]


@lru_cache(maxsize=16)  # projections, and generations that serve during one process's life
def _sql(projection: str, generation: int) -> str:
    return " UNION ALL ".join(
        "SELECT t.id, t.version FROM unnest($1::uuid[], $2::bigint[]) AS wanted (id, version)"  # noqa: S608 - our names
        f" JOIN {table.name} AS t ON t.id = wanted.id AND t.version >= wanted.version"
        for table in _TABLES[projection](generation)
    )
