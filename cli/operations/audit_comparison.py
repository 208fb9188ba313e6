"""The comparison behind `muster audit`: it walks both databases in the order of ids, by one digest a range.

Only where the digests of a range differ, its rows are fetched and compared. So a million users
cost about two scans, memory stays flat, and no snapshot is held for long. Events flow meanwhile: users that differ are
compared again, those of many ranges together, until they agree, or have differed for some seconds. Nothing is written.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from operator import itemgetter
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg

from chassis.postgres.database import Database
from command_api.users.rows import PUBLIC_COLUMNS, public_user, sql_type
from events.user_events import USER_EVENTS, PublicUser
from projectors.decoding.records import header
from projectors.operations.parked import suspicious_of
from projectors.trust.versions import version_of
from read_model import generations, users
from read_model.generations import Generation

#: Users of one range, on each side at most: a digest takes some tens of milliseconds, a difference fetches its rows.
RANGE_USERS: Final = 5000
#: How often users that differ are compared. An event takes milliseconds from commit to row.
LOOKS: Final = 4
LOOK_SECONDS: Final = 1.0
#: So many who differ are compared again together: after a restored backup each range has some, and a wait is seconds.
SUSPECTS_TOGETHER: Final = 50_000
#: Differences that are kept: a restored backup can bring any number, and nobody reads more.
KEPT_DIFFERENCES: Final = 10_000

#: What both sides have in columns, beside id and version.
_COLUMNS: Final = tuple(
    column.name for column in users.users_tables(0).users.columns if column.name not in {"id", "version", "document"}
)
#: What the query side has in the document, which is what clients see.
_FIELDS: Final = tuple(PublicUser.model_fields)
#: A field that came later is absent where nobody has set it.
_REQUIRED: Final = frozenset(name for name, field in PublicUser.model_fields.items() if field.is_required())
#: Fields that the command side has not as a column: what they are there, and what they are of the document. jsonb gives
#: attributes one form, whatever the spelling was.
_EXPRESSIONS: Final = {"attributes": "attributes::jsonb", "is_active": "status = 'active'"}
_TYPES: Final = {"attributes": "jsonb", "is_active": "boolean"}


#: What is read of a user on the command side: nothing of the password, which no operator may read.
_COMMAND_USERS: Final = f"SELECT {', '.join(dict.fromkeys(('id', 'version', *_COLUMNS, *PUBLIC_COLUMNS)))} FROM users"  # noqa: S608 - names of columns


def _select(columns: Sequence[str], source: str, erased: str, *, document: str = "") -> str:
    """Rows of users, taken from `source`, and of the erased, with these columns; `{where}` is filled in later."""
    nulls = ", NULL" * len(columns)
    return f"""
SELECT u.id, false AS erased, u.version, {", ".join(columns)}
FROM ({source} WHERE {{where}}) AS u{document}
UNION ALL
SELECT id, true, version{nulls} FROM {erased} WHERE {{where}}
"""  # noqa: S608 - of names of columns and tables alone


_DOCUMENT: Final = ", ".join(f"{name} {_TYPES.get(name) or sql_type(name)}" for name in _FIELDS)
# Rows for the digests: those of both sides have the same columns, and the fields of the document behind them.
_COMMAND_SIDE: Final = _select(
    [*_COLUMNS, *(f"{_EXPRESSIONS.get(name, name)} AS document_{name}" for name in _FIELDS)],
    _COMMAND_USERS,
    "erased_users",
)
_QUERY_SIDE: Final = _select(
    [*(f"u.{name}" for name in _COLUMNS), *(f"d.{name} AS document_{name}" for name in _FIELDS)],
    "SELECT * FROM {users}",
    "{erased}",
    document=f", json_to_record(convert_from(u.document, 'UTF8')::json) AS d ({_DOCUMENT})",
)
# The rows themselves, once digests differ. Python reads the documents, and tells which of them is none.
_COMMAND_ROWS: Final = _select(
    [name for name in dict.fromkeys((*_COLUMNS, *PUBLIC_COLUMNS)) if name not in {"id", "version"}],
    _COMMAND_USERS,
    "erased_users",
)
_QUERY_ROWS: Final = _select([*_COLUMNS, "document"], "SELECT * FROM {users}", "{erased}")

_DIGEST: Final = """
SELECT count(*) AS count, coalesce(sum(hashtextextended(side::text, 0)), 0) AS digest FROM ({side}) AS side
"""
_RANGE: Final = "id > $1 AND ($2::uuid IS NULL OR id <= $2)"
_THESE: Final = "id = ANY($1::uuid[])"
_BOUNDARY: Final = """
SELECT id FROM (SELECT id FROM {users} UNION ALL SELECT id FROM {erased}) AS known
WHERE id > $1 ORDER BY id OFFSET $2 LIMIT 1
"""


class DifferenceKind(StrEnum):
    """How the query side differs."""

    BEHIND = "behind"
    #: Or shown otherwise, and somebody else has written about the user.
    FORGED = "forged"
    AHEAD = "ahead"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class UserDifference:
    """One user who differs; a version is None where that side does not know the user."""

    user_id: UUID
    kind: DifferenceKind
    command_version: int | None
    query_version: int | None
    #: What differs where the versions are equal.
    fields: tuple[str, ...]
    #: Whether the query side has nothing of the user but that they were erased.
    erased: bool = False


AuditedUser: TypeAlias = dict[str, Any]


class Audit:
    """One walk over both sides."""

    def __init__(self, command: Database, query: Database, generation: Generation) -> None:
        """Compare with this generation of the read tables."""
        tables = users.users_tables(generation.number)
        self._generation = generation
        self._names = {"users": tables.users.name, "erased": tables.erased.name}
        self._command = command
        self._query = query

    @classmethod
    async def with_serving(cls, command: Database, query: Database) -> Audit:
        """Compare with the generation that serves now."""
        async with query.connection() as connection:
            generation = await generations.serving(connection, users.SCHEMA.name)
        return cls(command, query, generation)

    async def walk(self) -> AsyncIterator[tuple[int, list[UserDifference]]]:
        """Yield the number of users compared in each range, and now and then the differences that stayed so far."""
        suspects: list[UUID] = []
        start: UUID | None = UUID(int=0)
        while start is not None:
            end = await self._end(start)
            count, found = await self._range(start, end)
            suspects += found
            if end is None or len(suspects) >= SUSPECTS_TOGETHER:
                yield count, await self._confirm(suspects)
                suspects = []
            else:
                yield count, []
            start = end

    async def _end(self, start: UUID) -> UUID | None:
        """Where the range that begins after `start` ends, None at the end of both sides.

        On neither side has it more than RANGE_USERS: after a restored backup one side alone has all of the newest.
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

    async def _range(self, start: UUID, end: UUID | None) -> tuple[int, list[UUID]]:
        """The number of users, and those who differ now."""
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
        return count, [difference.user_id for difference in compare(command, query)]

    async def _confirm(self, suspects: Sequence[UUID]) -> list[UserDifference]:
        """Compare these users again until they agree, or have differed LOOKS times."""
        differences: list[UserDifference] = []
        for look in range(LOOKS):
            if not suspects:
                return []
            if look:
                await asyncio.sleep(LOOK_SECONDS)
            differences = []
            for first in range(0, len(suspects), RANGE_USERS):
                some = suspects[first : first + RANGE_USERS]
                command, query = await asyncio.gather(
                    self._rows(self._command, _COMMAND_ROWS, _THESE, some),
                    self._rows(self._query, _QUERY_ROWS, _THESE, some),
                )
                differences += compare(command, query)
            suspects = [difference.user_id for difference in differences]
        return await self._with_forged(differences)

    async def _with_forged(self, differences: Sequence[UserDifference]) -> list[UserDifference]:
        """The same, with users marked as forged who have a parked record that the command side never published."""
        known = {one.user_id: one.command_version or 0 for one in differences}
        ids, forged = list(known), set[UUID]()
        async with self._query.connection() as connection:
            for first in range(0, len(ids), RANGE_USERS):
                for record in await suspicious_of(connection, self._generation, ids[first : first + RANGE_USERS]):
                    suspect = record.suspect_id
                    is_ours = header(record, "ce_source") == USER_EVENTS.source
                    if suspect and not (is_ours and (version_of(record) or 0) <= known[suspect]):
                        forged.add(suspect)
        return [replace(one, kind=DifferenceKind.FORGED) if one.user_id in forged else one for one in differences]

    async def _digest(self, database: Database, side: str, *bounds: UUID | None) -> tuple[int, int] | None:
        """The number of rows and their digest; None where a document cannot be read and rows must be compared."""
        sql = _DIGEST.format(side=side.format(where=_RANGE, **self._names))
        try:
            async with database.connection() as connection, connection.transaction(readonly=True):
                row = await connection.fetchrow(sql, *bounds)
        except asyncpg.DataError:
            return None
        assert row is not None
        return row["count"], int(row["digest"])

    async def _rows(self, database: Database, side: str, where: str, *arguments: object) -> dict[UUID, AuditedUser]:
        async with database.connection() as connection, connection.transaction(readonly=True):
            rows = await connection.fetch(side.format(where=where, **self._names), *arguments)
        # Where an id is both a user's and an erased person's, the user is shown, whichever version is newer.
        found: dict[UUID, AuditedUser] = {}
        for row in sorted(map(dict, rows), key=itemgetter("erased"), reverse=True):
            before = found.get(row["id"], row)
            found[row["id"]] = {**row, "version": max(before["version"], row["version"])}
        return found


def compare(command: dict[UUID, AuditedUser], query: dict[UUID, AuditedUser]) -> list[UserDifference]:
    """How the query side's rows differ from the command side's, in the order of ids."""
    # A rebuilt read side never saw users who were erased long ago.
    forgotten = {user_id for user_id, user in command.items() if user["erased"] and user_id not in query}
    ids = sorted({*command, *query} - forgotten)
    found = (_compare(user_id, command.get(user_id), query.get(user_id)) for user_id in ids)
    return [difference for difference in found if difference is not None]


def _compare(user_id: UUID, command: AuditedUser | None, query: AuditedUser | None) -> UserDifference | None:
    ours = None if command is None else command["version"]
    theirs = None if query is None else query["version"]
    if command is None and query is not None and query["erased"]:
        # Nobody is shown: an id and a version stay of whoever was registered and erased after a backup.
        return None
    if ours != theirs:
        kind = DifferenceKind.AHEAD if (theirs or 0) > (ours or 0) else DifferenceKind.BEHIND
        return UserDifference(user_id, kind, ours, theirs, (), erased=query is not None and query["erased"])
    assert command is not None
    assert query is not None
    fields = _differing(command, query)
    if not fields:
        return None
    return UserDifference(user_id, DifferenceKind.DIFFERENT, ours, theirs, fields, erased=query["erased"])


def _differing(command: AuditedUser, query: AuditedUser) -> tuple[str, ...]:
    """What differs between two rows of the same version; `document` where that is not a user's document."""
    if command["erased"] or query["erased"]:
        return ("erased",) if command["erased"] != query["erased"] else ()
    found = {name for name in _COLUMNS if command[name] != query[name]}
    document = _read_document(query["document"])
    if document is None:
        found.add("document")
    else:
        expected = public_user(command).model_dump(mode="json")
        found |= {name for name in _FIELDS if _canonical(document.get(name)) != _canonical(expected.get(name))}
    return tuple(name for name in dict.fromkeys((*_FIELDS, *_COLUMNS, "document")) if name in found)


def _read_document(document: bytes) -> dict[str, Any] | None:
    """The document, or None where it is no JSON or has other fields."""
    try:
        read = json.loads(document)
    except (ValueError, RecursionError):
        return None
    return read if isinstance(read, dict) and _REQUIRED <= read.keys() <= set(_FIELDS) else None


def _canonical(value: Any) -> str:
    """Equal JSON values as equal texts; to Python 1 and true are equal, too."""
    return json.dumps(value, sort_keys=True)
