"""The comparison behind `muster audit`: both databases walked in the order of ids, one digest a range on each side.

A range whose digests agree is done with; only of others rows are fetched and compared. So a million users cost about
two scans, memory stays flat, and no snapshot is held for long. Events flow meanwhile: what differs is looked at again
until it either agrees or has been the same difference for a while. Nothing is written.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import asyncpg

from chassis.postgres.database import Database
from events.user_events import rfc3339
from read_model import generations, users

#: Users of one range, on each side at most: a digest takes some tens of milliseconds, a difference fetches its rows.
RANGE_USERS: Final = 5000
#: An event takes milliseconds from commit to row; after this many looks, a second apart, a difference is one.
LOOKS: Final = 4
LOOK_SECONDS: Final = 1.0
#: Differences that are kept; a restored backup can bring any number, and a report of more helps nobody.
KEPT_DIFFERENCES: Final = 10_000

#: What both sides have in columns, and what the query side has in the document, which is what clients see.
_COLUMNS: Final = ("version", "status", "email_key", "username_key", "created_at", "updated_at")
_DOCUMENT: Final = (
    "id",
    "email",
    "username",
    "email_verified",
    "display_name",
    "attributes",
    "is_active",
    "status",
    "version",
    "created_at",
    "updated_at",
)

#: How differences are listed.
_ORDER: Final = tuple(dict.fromkeys((*_DOCUMENT, *_COLUMNS)))

# Both sides as rows of the same columns and the same fields of the document, for the digests. jsonb gives attributes
# one form, whatever the spelling was.
_COMMAND_SIDE: Final = """
SELECT id, false AS erased, version, status, email_key, username_key, created_at, updated_at,
    id AS d1, email, username, email_verified, display_name, attributes::jsonb AS attributes, status = 'active' AS d2,
    status AS d3, version AS d4, created_at AS d5, updated_at AS d6
FROM users WHERE {where}
UNION ALL
SELECT id, true, version, null, null, null, null, null,
    null, null, null, null, null, null, null, null, null, null, null
FROM erased_users WHERE {where}
"""

_QUERY_SIDE: Final = """
SELECT u.id, false AS erased, u.version, u.status, u.email_key, u.username_key, u.created_at, u.updated_at,
    d.id AS d1, d.email, d.username, d.email_verified, d.display_name, d.attributes, d.is_active AS d2,
    d.status AS d3, d.version AS d4, d.created_at AS d5, d.updated_at AS d6
FROM (SELECT * FROM {users} WHERE {where}) u, json_to_record(convert_from(u.document, 'UTF8')::json) AS d (
    id uuid, email text, username text, email_verified boolean, display_name text, attributes jsonb, is_active boolean,
    status text, version bigint, created_at timestamptz, updated_at timestamptz
)
UNION ALL
SELECT id, true, version, null, null, null, null, null,
    null, null, null, null, null, null, null, null, null, null, null
FROM {erased} WHERE {where}
"""

_DIGEST: Final = """
SELECT count(*) AS count, coalesce(sum(hashtextextended(side::text, 0)), 0) AS digest FROM ({side}) AS side
"""

# The rows themselves, once digests differ: documents are read here, where one that is no document can be told.
_COMMAND_ROWS: Final = """
SELECT id, false AS erased, version, status, email, email_key, email_verified, username, username_key, display_name,
    attributes::text AS attributes, created_at, updated_at
FROM users WHERE {where}
UNION ALL
SELECT id, true, version, null, null, null, null, null, null, null, null, null, null
FROM erased_users WHERE {where}
"""

_QUERY_ROWS: Final = """
SELECT id, false AS erased, version, status, email_key, username_key, created_at, updated_at, document
FROM {users} WHERE {where}
UNION ALL
SELECT id, true, version, null, null, null, null, null, null FROM {erased} WHERE {where}
"""

_RANGE: Final = "id > $1 AND ($2::uuid IS NULL OR id <= $2)"
_THESE: Final = "id = ANY($1::uuid[])"
_BOUNDARY: Final = """
SELECT id FROM (SELECT id FROM {users} UNION ALL SELECT id FROM {erased}) AS known
WHERE id > $1 ORDER BY id OFFSET $2 LIMIT 1
"""


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
            generation = await generations.serving(connection, users.SCHEMA.name)
        return cls(command, query, generation.number)

    async def walk(self) -> AsyncIterator[tuple[int, list[Difference]]]:
        """Range by range: the number of users compared, and the differences that stayed."""
        start: UUID | None = UUID(int=0)
        while start is not None:
            end = await self._end(start)
            yield await self._range(start, end)
            start = end

    async def _end(self, start: UUID) -> UUID | None:
        """Where the range that begins behind `start` ends, None at the end of both sides.

        On neither side it has more than RANGE_USERS: after a restored backup one side alone has all of the newest.
        """
        ends = await asyncio.gather(
            self._boundary(self._command, start, users="users", erased="erased_users"),
            self._boundary(self._query, start, **self._names),
        )
        return min(filter(None, ends), default=None)

    async def _boundary(self, database: Database, start: UUID, **names: str) -> UUID | None:
        async with database.connection() as connection:
            end: UUID | None = await connection.fetchval(_BOUNDARY.format(**names), start, RANGE_USERS - 1)
        return end

    async def _range(self, start: UUID, end: UUID | None) -> tuple[int, list[Difference]]:
        ours, theirs = await asyncio.gather(
            self._digest(self._command, _COMMAND_SIDE, start, end), self._digest(self._query, _QUERY_SIDE, start, end)
        )
        count = 0 if ours is None else ours[0]
        if ours is not None and ours == theirs:
            return count, []
        command, query = await asyncio.gather(
            self._rows(self._command, _COMMAND_ROWS, _RANGE, start, end),
            self._rows(self._query, _QUERY_ROWS, _RANGE, start, end),
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
                self._rows(self._command, _COMMAND_ROWS, _THESE, suspects),
                self._rows(self._query, _QUERY_ROWS, _THESE, suspects),
            )
            differences = compare(command, query)
            suspects = [difference.user_id for difference in differences]
        return differences

    async def _digest(self, database: Database, side: str, *bounds: UUID | None) -> tuple[int, int] | None:
        """The number of rows and their digest; None where a document is none, so that rows have to be looked at."""
        sql = _DIGEST.format(side=side.format(where=_RANGE, **self._names))
        try:
            async with database.connection() as connection, connection.transaction(readonly=True):
                row = await connection.fetchrow(sql, *bounds)
        except asyncpg.DataError:
            return None
        assert row is not None
        return row["count"], int(row["digest"])

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
    fields = _differing(command, query)
    return Difference(user_id, Kind.DIFFERENT, ours, theirs, fields) if fields else None


def _differing(command: Row, query: Row) -> tuple[str, ...]:
    """What differs between two rows of the same version; `document` where that is not the user's document at all."""
    if command["erased"] or query["erased"]:
        return ("erased",) if command["erased"] != query["erased"] else ()
    found = {name for name in _COLUMNS if command[name] != query[name]}
    document = _read(query["document"])
    if document is None:
        found.add("document")
    else:
        expected = _document(command)
        found |= {name for name in _DOCUMENT if _canonical(document[name]) != _canonical(expected[name])}
    return tuple(name for name in (*_ORDER, "document") if name in found)


def _read(document: bytes) -> dict[str, Any] | None:
    """The document, or None where it is no JSON or has not the fields of one."""
    try:
        read = json.loads(document)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) and read.keys() == set(_DOCUMENT) else None


def _document(command: Row) -> dict[str, Any]:
    """What the document has to say."""
    return {
        **{name: command[name] for name in _DOCUMENT if name in command},
        "id": str(command["id"]),
        "attributes": json.loads(command["attributes"]),
        "is_active": command["status"] == "active",
        "created_at": rfc3339(command["created_at"]),
        "updated_at": rfc3339(command["updated_at"]),
    }


def _canonical(value: Any) -> str:
    """One form of equal JSON values; Python takes 1 and true for equal."""
    return json.dumps(value, sort_keys=True)
