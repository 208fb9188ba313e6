"""The comparison behind `muster audit`: both databases walked in the order of ids, one digest a range on each side.

A range whose digests agree is done with; only of others rows are fetched and compared. So a million users cost about
two scans, memory stays flat, and no snapshot is held for long. Events flow meanwhile: what differs is looked at again
until it either agrees or has been the same difference for a while. Nothing is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from chassis.database import Database
from read_model import generations, users

#: Users of one range: a digest takes some tens of milliseconds, and a difference fetches so many rows.
RANGE_USERS: Final = 5000
#: An event takes milliseconds from commit to row; after this many looks, a second apart, a difference is one.
LOOKS: Final = 4
LOOK_SECONDS: Final = 1.0
#: Differences that are kept; a restored backup can bring any number, and a report of more helps nobody.
KEPT_DIFFERENCES: Final = 10_000

_FIELDS: Final = (
    "version",
    "status",
    "email",
    "email_key",
    "email_verified",
    "username",
    "username_key",
    "display_name",
    "attributes",
    "created_at",
    "updated_at",
)

# Both sides as rows of (id, erased, version, fields…). jsonb gives attributes one form, whatever the spelling was.
_COMMAND_SIDE: Final = """
SELECT id, false AS erased, version, status, email, email_key, email_verified, username, username_key, display_name,
    attributes::jsonb AS attributes, created_at, updated_at
FROM users WHERE {where}
UNION ALL
SELECT id, true, version, null, null, null, null, null, null, null, null, null, null
FROM erased_users WHERE {where}
"""

_QUERY_SIDE: Final = """
SELECT u.id, false AS erased, u.version, u.status, d.email, u.email_key, d.email_verified, d.username, u.username_key,
    d.display_name, d.attributes, u.created_at, u.updated_at
FROM {users} u, json_to_record(convert_from(u.document, 'UTF8')::json) AS d (
    email text, email_verified boolean, username text, display_name text, attributes jsonb
) WHERE {where}
UNION ALL
SELECT id, true, version, null, null, null, null, null, null, null, null, null, null
FROM {erased} WHERE {where}
"""

_DIGEST: Final = """
SELECT count(*) AS count, coalesce(sum(hashtextextended(side::text, 0)::numeric), 0) AS digest FROM ({side}) AS side
"""

_RANGE: Final = "id > $1 AND ($2::uuid IS NULL OR id <= $2)"
_THESE: Final = "id = ANY($1::uuid[])"
_BOUNDARY: Final = "SELECT id FROM users WHERE id > $1 ORDER BY id OFFSET $2 LIMIT 1"


class Kind(StrEnum):
    """How the query side differs."""

    BEHIND = "behind"
    AHEAD = "ahead"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Difference:
    """One user; a version of None means that side does not know the user."""

    user_id: UUID
    kind: Kind
    command_version: int | None
    query_version: int | None
    #: What differs at the same version.
    fields: tuple[str, ...]


Row = dict[str, Any]


class Comparison:
    """One walk over both sides."""

    def __init__(self, command: Database, query: Database, generation: int) -> None:
        """Compare with this generation of the read tables."""
        tables = users.users_tables(generation)
        self._names = {"users": tables.users.name, "erased": tables.erased.name}
        self._command = command
        self._query = query

    @classmethod
    async def with_serving(cls, command: Database, query: Database) -> Comparison:
        """Compare with the generation that serves now."""
        async with query.connection() as connection:
            generation = await generations.serving(connection, users.PROJECTION)
        return cls(command, query, generation.number)

    async def walk(self) -> AsyncIterator[tuple[int, list[Difference]]]:
        """Range by range: the number of users compared, and the differences that stayed."""
        start: UUID | None = UUID(int=0)
        while start is not None:
            async with self._command.connection() as connection:
                end: UUID | None = await connection.fetchval(_BOUNDARY, start, RANGE_USERS - 1)
            yield await self._range(start, end)
            start = end

    async def _range(self, start: UUID, end: UUID | None) -> tuple[int, list[Difference]]:
        (count, *digests), other = await asyncio.gather(
            self._digest(self._command, _COMMAND_SIDE, start, end), self._digest(self._query, _QUERY_SIDE, start, end)
        )
        if (count, *digests) == other:
            return count, []
        command, query = await asyncio.gather(
            self._rows(self._command, _COMMAND_SIDE, _RANGE, start, end),
            self._rows(self._query, _QUERY_SIDE, _RANGE, start, end),
        )
        suspects = [difference.user_id for difference in compare(command, query)]
        return count, await self._confirm(suspects)

    async def _confirm(self, suspects: Sequence[UUID]) -> list[Difference]:
        """Look again until they agree or have had time enough to."""
        differences: list[Difference] = []
        for look in range(LOOKS):
            if not suspects:
                return []
            if look:
                await asyncio.sleep(LOOK_SECONDS)
            command, query = await asyncio.gather(
                self._rows(self._command, _COMMAND_SIDE, _THESE, suspects),
                self._rows(self._query, _QUERY_SIDE, _THESE, suspects),
            )
            differences = compare(command, query)
            suspects = [difference.user_id for difference in differences]
        return differences

    async def _digest(self, database: Database, side: str, *bounds: UUID | None) -> tuple[Any, ...]:
        sql = _DIGEST.format(side=side.format(where=_RANGE, **self._names))
        async with database.connection() as connection, connection.transaction(readonly=True):
            row = await connection.fetchrow(sql, *bounds)
        assert row is not None
        return tuple(row)

    async def _rows(self, database: Database, side: str, where: str, *arguments: object) -> dict[UUID, Row]:
        async with database.connection() as connection, connection.transaction(readonly=True):
            rows = await connection.fetch(side.format(where=where, **self._names), *arguments)
        # Of a user and an erasure of the same id the newer one counts.
        found: dict[UUID, Row] = {}
        for row in sorted(map(dict, rows), key=lambda row: (row["version"], row["erased"])):
            found[row["id"]] = row
        return found


def compare(command: dict[UUID, Row], query: dict[UUID, Row]) -> list[Difference]:
    """How the query side's rows differ from the command side's, in the order of ids."""
    found = (_compare(user_id, command.get(user_id), query.get(user_id)) for user_id in sorted({*command, *query}))
    return [difference for difference in found if difference is not None]


def _compare(user_id: UUID, command: Row | None, query: Row | None) -> Difference | None:
    ours = None if command is None else command["version"]
    theirs = None if query is None else query["version"]
    if ours != theirs:
        kind = Kind.AHEAD if (theirs or 0) > (ours or 0) else Kind.BEHIND
        return Difference(user_id, kind, ours, theirs, ())
    assert command is not None
    assert query is not None
    fields = tuple(name for name in ("erased", *_FIELDS) if command[name] != query[name])
    return Difference(user_id, Kind.DIFFERENT, ours, theirs, fields) if fields else None
