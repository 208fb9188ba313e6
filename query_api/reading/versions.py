"""Versions in the read tables: the SQL that compares them with the versions that clients want to see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final, TypeAlias
from uuid import UUID

from query_api.reading.reader import Reader
from query_api.reading.serving import Serving
from read_model.catalogue import SCHEMAS
from read_model.schema import GenerationTables

#: The least version that is fresh enough, by id.
WantedVersions: TypeAlias = Mapping[UUID, int]


def behind_sql(tables: GenerationTables, ids: str, versions: str) -> str:
    """SQL that is true while one of the ids has not the wanted version, or a later one, in any of the tables.

    `ids` and `versions` are the placeholders of two arrays of the same length.
    """
    missing = f"({_version_sql(tables)} >= wanted.version) IS NOT TRUE"
    return f"EXISTS (SELECT FROM unnest({ids}::uuid[], {versions}::bigint[]) AS wanted (id, version) WHERE {missing})"


def _version_sql(tables: GenerationTables) -> str:
    """SQL that looks up the newest version of `wanted.id`, null of nobody.

    Row by row: the plan of a join, made while a table is tiny, reads all of it once it has grown.
    """
    versions = (f"(SELECT t.version FROM {table.name} AS t WHERE t.id = wanted.id)" for table in tables.versions)  # noqa: S608 - our names
    return f"greatest({', '.join(versions)})"


#: SQL that is true where `unless_behind` reads.
NOT_BEHIND: Final = "NOT (SELECT is_behind FROM behind)"


def unless_behind(tables: GenerationTables, ids: str, versions: str, *, else_row: str, read: str) -> str:
    """SQL that reads, or gives the one row `else_row` while the tables are behind; both look at one snapshot.

    `read` has NOT_BEHIND among its conditions, so that nothing is read in vain.
    """
    behind = behind_sql(tables, ids, versions)
    return (
        f"WITH behind AS MATERIALIZED (SELECT {behind} AS is_behind)"  # noqa: S608 - our names
        f" SELECT {else_row} FROM behind WHERE is_behind UNION ALL ({read})"
    )


async def read_reached(
    reader: Reader, serving: Serving, projection: str, wanted: WantedVersions
) -> Iterable[tuple[UUID, int]]:
    """The ids that have the wanted version or a later one in the generation that is read, each with the one it has.

    Raises:
        DatabaseUnavailableError: there was no connection, or the statement failed.
        Problem: 503, no generation can be read, or the statement took too long.
    """
    sql = _reached_sql(projection, serving.view(projection).generation)
    rows = await reader.fetch(sql, [list(wanted), list(wanted.values())])
    return [(row[0], row[1]) for row in rows]


@lru_cache(maxsize=16)  # projections, and generations that serve during one process's life
def _reached_sql(projection: str, generation: int) -> str:
    version = _version_sql(SCHEMAS[projection].tables(generation))
    return (
        "SELECT wanted.id, found.version FROM unnest($1::uuid[], $2::bigint[]) AS wanted (id, version)"  # noqa: S608 - our names
        f" CROSS JOIN LATERAL (SELECT {version} AS version OFFSET 0) AS found WHERE found.version >= wanted.version"
    )
