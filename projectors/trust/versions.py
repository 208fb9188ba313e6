"""Suspicious records: those that no relay of ours can have published where they stand.

Ours have our `ce_source`, a key that is an id, and headers that say which event of that subject it is; and the versions
of a subject follow one another. A record whose version is more than one above the greatest that this generation has
read of the subject is suspicious, unless compaction may have removed what was between (projectors/trust/compaction.py),
it is a snapshot, or nothing was read of the subject yet. Without this, one record of a stranger with a great version
would hide every real change from then on, and one without headers would hold a user back.

Nearly no batch has such a record. So only the first version of each subject in a batch is compared with what is known,
in the statement that moves the checkpoints, and a batch in which something looks odd is judged record by record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from chassis.postgres.database import Connection
from projectors.decoding.records import MAX_VERSION, DecodedEvent, Poison, Record, header
from read_model.generations import Generation

Explained = Callable[[Record], bool]
_VERSION_DIGITS: Final = 20

# Looked up row by row: a join would read all of a table that is not yet large. Of nobody it is null.
_IN_A_TABLE: Final = "(SELECT t.version FROM {table} t WHERE t.id = i.id)"
_PARKED: Final = """(
    SELECT p.version FROM parked_versions p
    WHERE p.projection = {projection} AND p.generation = {generation} AND p.user_id = i.id
)"""
_KNOWN: Final = "SELECT i.id, {greatest} AS version FROM unnest($1::uuid[]) AS i (id)"
_NOTE: Final = """
INSERT INTO parked_versions AS t (projection, generation, user_id, version)
SELECT $1, $2, i.* FROM unnest($3::uuid[], $4::bigint[]) AS i
ON CONFLICT (projection, generation, user_id) DO UPDATE SET version = excluded.version
WHERE t.version < excluded.version
"""


@dataclass(slots=True)
class FirstVersions:
    """The first version of each subject in a batch that has to follow one that is known."""

    subjects: list[UUID] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    #: Whether the batch itself has something that has to be judged.
    odd: bool = False

    @classmethod
    def of(cls, items: Iterable[DecodedEvent | Poison], snapshot: str | None, explained: Explained) -> FirstVersions:
        """Those of a batch, in the order of the log; `snapshot` is the type of snapshots."""
        found, greatest = cls(), dict[UUID, int]()
        for item in items:
            if isinstance(item, Poison):
                found.odd |= not item.suspicious
                continue
            subject_id, version = item.subject_id, item.version
            known = greatest.get(subject_id)
            if known is None:
                if version > 1 and item.type != snapshot and not explained(item.record):
                    found.subjects.append(subject_id)
                    found.versions.append(version)
            elif version <= known:
                continue
            elif version > known + 1 and item.type != snapshot and not explained(item.record):
                found.odd = True
            greatest[subject_id] = version
        return found


def judge(
    items: Iterable[DecodedEvent | Poison], known: Mapping[UUID, int], snapshot: str | None, explained: Explained
) -> tuple[list[DecodedEvent | Poison], dict[UUID, int]]:
    """The same items, those found suspicious among them, and the greatest version then read of each subject.

    `known` is the greatest that was read before.
    """
    judged: list[DecodedEvent | Poison] = []
    greatest = dict(known)
    for item in items:
        subject_id = item.subject_id
        if subject_id is None or (isinstance(item, Poison) and item.suspicious):
            judged.append(item)
            continue
        before, version = greatest.get(subject_id), version_of(item.record)
        assert version is not None, "without one it is suspicious"
        is_next = before is None or version <= before + 1
        if is_next or header(item.record, "ce_type") == snapshot or explained(item.record):
            greatest[subject_id] = max(before or 0, version)
        else:
            why = f"version {version} comes after version {before}, and nothing explains what is missing between"
            item = Poison(item.record, subject_id, why, suspicious=True)  # noqa: PLW2901 - the same record
        judged.append(item)
    return judged, greatest


def version_of(record: Record) -> int | None:
    """The version that a record says; None where it says none."""
    said = header(record, "ce_sequence")
    if said is None or len(said) > _VERSION_DIGITS or not (said.isascii() and said.isdigit()):
        return None
    return int(said) if 0 < int(said) <= MAX_VERSION else None


def greatest_read(tables: Sequence[str], projection: str, generation: str) -> str:
    """SQL: the greatest version that this generation has read of the subject `i.id`, in records not suspicious.

    `projection` and `generation` are the parameters that name it.
    """
    applied = [_IN_A_TABLE.format(table=table) for table in tables]
    return f"greatest({', '.join([*applied, _PARKED.format(projection=projection, generation=generation)])})"


async def read(
    connection: Connection, generation: Generation, tables: Sequence[str], subjects: Iterable[UUID]
) -> dict[UUID, int]:
    """The greatest version that this generation has read of each of these subjects, in records not suspicious."""
    known = _KNOWN.format(greatest=greatest_read(tables, "$2", "$3"))
    rows = await connection.fetch(known, list(subjects), generation.projection, generation.number)
    return {row["id"]: row["version"] for row in rows if row["version"] is not None}


async def note(connection: Connection, generation: Generation, versions: Mapping[UUID, int]) -> None:
    """Remember the greatest versions that are parked, for when they are discarded."""
    await connection.execute(_NOTE, generation.projection, generation.number, list(versions), list(versions.values()))
