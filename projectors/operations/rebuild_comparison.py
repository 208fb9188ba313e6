"""Whether a generation that was built says of every user what the command side says, before queries read it.

Versions alone are compared, since an event of one version has one content; `muster audit` compares the contents of what
serves. Both sides move meanwhile: whoever differs is looked at again until the side that was behind has come as far as
the other had been at the first look.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

from chassis.postgres.database import Database
from read_model.catalogue import SCHEMAS
from read_model.generations import Generation

#: Users of one range; both sides are a few megabytes then.
RANGE_USERS: Final = 20_000
#: An event takes milliseconds from commit to row; this long it is waited for.
CONFIRM_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.2
#: More differences than this are no events on their way.
SUSPECTS: Final = 10_000
#: Who differs is named in words up to so many of each kind,
SAMPLES: Final = 3
#: and listed up to so many: as many as one `muster repair` can be given.
LISTED: Final = 10_000

_COMMAND: Final = """
SELECT id, version, false AS erased FROM users WHERE {where}
UNION ALL SELECT id, version, true FROM erased_users WHERE {where}
"""
_RANGE: Final = "id > $1 AND ($2::uuid IS NULL OR id <= $2)"
_THESE: Final = "id = ANY($1::uuid[])"
_TABLES: Final = ("users", "erased_users")
_END: Final = "SELECT id FROM {table} WHERE id > $1 ORDER BY id OFFSET $2 LIMIT 1"
_WAITING: Final = """
SELECT subject_id AS id FROM outbox WHERE subject_id = ANY($1::uuid[])
UNION SELECT subject_id FROM outbox_set_aside WHERE subject_id = ANY($1::uuid[])
"""
_PARKED: Final = """
SELECT DISTINCT user_id AS id FROM parked_records
WHERE projection = $2 AND generation = $3 AND user_id = ANY($1::uuid[])
"""


class Kind(StrEnum):
    """How a generation differs from the command side."""

    MISSING = "missing"
    BEHIND = "behind"
    AHEAD = "ahead"
    UNKNOWN = "unknown to the command side"


class Known(NamedTuple):
    """What a side knows of a user."""

    version: int
    erased: bool


#: What both sides say.
Sides: TypeAlias = "tuple[dict[UUID, Known], dict[UUID, Known]]"


#: What mends whom the topic has not, or no more.
REFILL: Final = (
    "`muster events refill` publishes whom the topic lacks, and `muster repair ID…` mends whoever stays listed"
)
_REMEDIES: Final = {
    Kind.MISSING: REFILL,
    Kind.BEHIND: REFILL,
    Kind.AHEAD: "whoever is ahead since the command database was restored is raised by `muster repair --ahead`, and"
    " mended by `muster repair ID…` where somebody else wrote about them",
    Kind.UNKNOWN: "import by id whom the command side should know; `muster repair ID…` erases the others",
}


@dataclass(slots=True)
class Verdict:
    """What a comparison found."""

    compared: int = 0
    counts: Counter[Kind] = field(default_factory=Counter)
    #: The first LISTED of each kind, in the order of ids.
    ids: dict[Kind, list[UUID]] = field(default_factory=dict)

    def add(self, differing: Mapping[UUID, Kind]) -> None:
        """Count these, and list some."""
        for user_id, kind in sorted(differing.items()):
            self.counts[kind] += 1
            listed = self.ids.setdefault(kind, [])
            if len(listed) < LISTED:
                listed.append(user_id)

    @property
    def remedy(self) -> str:
        """What mends each kind that was found; empty where nothing differs."""
        return "; ".join(dict.fromkeys(_REMEDIES[kind] for kind in sorted(self.counts)))

    def __str__(self) -> str:
        """The counts, with samples."""
        return "; ".join(
            f"{count:,} {kind}, such as {', '.join(map(str, self.ids[kind][:SAMPLES]))}"
            for kind, count in sorted(self.counts.items())
        )


@dataclass(frozen=True, slots=True)
class GenerationDifference:
    """Why a generation that was built may not serve, and what mends that."""

    #: It goes on after the generation's name.
    words: str
    remedy: str
    #: Who differs, by how; not all where they are very many.
    users: Mapping[str, Sequence[UUID]] = field(default_factory=dict)

    @classmethod
    def of(cls, verdict: Verdict) -> GenerationDifference | None:
        """The difference from the command side; None where there is none."""
        if not verdict.counts:
            return None
        users = {kind.name.lower(): ids for kind, ids in verdict.ids.items()}
        return cls(f"does not say what the command side says: {verdict}", verdict.remedy, users)


class Comparison:
    """One generation beside the command side."""

    def __init__(self, command: Database, query: Database, generation: Generation) -> None:
        """Nothing is read yet."""
        self._command = command
        self._query = query
        self._generation = generation
        tables = SCHEMAS[generation.projection].tables(generation.number)
        self._tables = [table.name for table in tables.versions]
        self._versions = " UNION ALL ".join(
            f"SELECT id, version, {gone} AS erased FROM {table} WHERE {{where}}"  # noqa: S608 - our names
            for table, gone in zip(self._tables, tables.gone, strict=True)
        )

    async def run(self) -> Verdict:
        """Compare every user.

        Raises:
            DatabaseUnavailableError, asyncpg.PostgresError: a database is away, or may not be read.
        """
        verdict = Verdict()
        start: UUID | None = UUID(int=0)
        while start is not None:
            end = await self._end(start)
            known, shown = await self._look(_RANGE, start, end)
            verdict.compared += len(known)
            verdict.add(await self._confirmed(known, shown))
            start = end
        return verdict

    async def _end(self, start: UUID) -> UUID | None:
        """Where the range that begins after `start` ends, None at the end of both sides."""
        ends = []
        for database, tables in ((self._command, _TABLES), (self._query, self._tables)):
            async with database.connection() as connection:
                ends += [await connection.fetchval(_END.format(table=table), start, RANGE_USERS) for table in tables]
        return min(filter(None, ends), default=None)

    async def _look(self, where: str, *arguments: object) -> Sides:
        """What both sides say of these users, the command side first: what it knows then may be on its way."""
        async with self._command.connection() as connection:
            rows = await connection.fetch(_COMMAND.format(where=where), *arguments)
        known = by_id(map(dict, rows))
        async with self._query.connection() as connection:
            rows = await connection.fetch(self._versions.format(where=where), *arguments)
        return known, by_id(map(dict, rows))

    async def _confirmed(self, known: dict[UUID, Known], shown: dict[UUID, Known]) -> dict[UUID, Kind]:
        """Who differs and stays different, for a reason that is not known."""
        differing = compare(known, shown)
        deadline = time.monotonic() + CONFIRM_SECONDS
        while differing and len(differing) <= SUSPECTS:
            for user_id in await self._explained(list(differing)):
                del differing[user_id]
            if not differing or time.monotonic() > deadline:
                break
            await asyncio.sleep(LOOK_SECONDS)
            now = await self._look(_THESE, list(differing))
            differing = {one: kind for one, kind in differing.items() if not came_by(one, (known, shown), now)}
        return differing

    async def _explained(self, ids: list[UUID]) -> list[UUID]:
        """Those of whom events wait in the outbox, or are parked."""
        async with self._command.connection() as connection:
            waiting = {row["id"] for row in await connection.fetch(_WAITING, ids)}
        owner = (self._generation.projection, self._generation.number)
        async with self._query.connection() as connection:
            parked = {row["id"] for row in await connection.fetch(_PARKED, ids, *owner)}
        return [one for one in ids if one in waiting or one in parked]


def compare(known: Mapping[UUID, Known], shown: Mapping[UUID, Known]) -> dict[UUID, Kind]:
    """How what is shown differs. Of whom nobody is shown, and nobody should be, does not: ids stay here or there."""
    found = {}
    for user_id in known.keys() | shown.keys():
        ours, theirs = known.get(user_id), shown.get(user_id)
        if (ours is None or ours.erased) and (theirs is None or theirs.erased):
            continue
        if ours is None:
            found[user_id] = Kind.UNKNOWN
        elif theirs is None:
            found[user_id] = Kind.MISSING
        elif ours != theirs:
            found[user_id] = Kind.BEHIND if theirs.version < ours.version else Kind.AHEAD
    return found


def by_id(rows: Iterable[Mapping[str, Any]]) -> dict[UUID, Known]:
    """Where an id is both a user's and an erased person's, the user is shown, whichever version is newer."""
    found: dict[UUID, Known] = {}
    for row in rows:
        before = found.get(row["id"], Known(0, erased=True))
        found[row["id"]] = Known(max(before.version, row["version"]), before.erased and row["erased"])
    return found


def came_by(user_id: UUID, first: Sides, now: Sides) -> bool:
    """Whether both sides have reached what the other one had at the first look, or agree."""
    (ours, theirs), (ours_now, theirs_now) = (
        [side.get(user_id, Known(0, erased=False)).version for side in sides] for sides in (first, now)
    )
    reached = ours != theirs and theirs_now >= ours and ours_now >= theirs
    return reached or user_id not in compare(*now)
