"""The users whom a generation would leave out: another one knows them, and it does not, or only as they were before."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from read_model.catalogue import SCHEMAS
from read_model.generations import UNBOUND, Connection, Generation

#: Both are read whole, once, before a switch.
COMPARE_SECONDS: Final = 600.0
#: Who is left out is listed up to so many.
LISTED: Final = 10_000

_LEFT_OUT: Final = """
SELECT count(*) AS number, (array_agg(id ORDER BY id))[:{listed}] AS ids
FROM ({old}) AS o LEFT JOIN ({new}) AS n USING (id) WHERE n.version IS NULL OR n.version < o.version
"""


async def left_out(connection: Connection, old: Generation, new: Generation) -> tuple[int, list[UUID]]:
    """How many of `old` are missing or older in `new`, which has the same shape, and the first LISTED ids."""
    sql = _LEFT_OUT.format(listed=LISTED, old=_versions(old), new=_versions(new))
    async with connection.transaction():
        await connection.execute(UNBOUND)
        row = await connection.fetchrow(sql, timeout=COMPARE_SECONDS)
    assert row is not None
    return row["number"], row["ids"] or []


def _versions(generation: Generation) -> str:
    tables = SCHEMAS[generation.projection].tables(generation.number).versions
    return " UNION ALL ".join(f"SELECT id, version FROM {table.name}" for table in tables)  # noqa: S608 - our names
