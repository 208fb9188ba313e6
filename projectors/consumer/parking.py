"""Parking: a record that cannot be applied waits in the query database, and its subject's later records behind it.

Only that subject waits, and only in that generation; all others flow on. A tombstone never waits: it takes the
subject's parked records away with everything else. The record itself is parked, byte for byte, so that a later version
of the code can retry it (projectors/operations/parked.py).

Nobody waits behind a suspicious record (projectors/trust/versions.py): SUSPICIOUS is how it is told from others once it
is parked. Whoever may write to the topic could bring any number of records of either kind, so beyond SUSPICIOUS_RECORDS
and WAITING_RECORDS of a generation they are only counted, by partition and position: their bytes stay on the topic, and
nobody waits behind them.

The column `user_id` holds the id of any subject: renaming it would break the version before, which runs while the
database is migrated.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from chassis.postgres.database import Connection
from projectors.decoding.records import Record, time_of
from read_model import parked_values
from read_model.generations import Generation

#: So many are kept as somebody will look at. With values of 1 MiB they take 1 GiB, once for all generations.
SUSPICIOUS_RECORDS: Final = 1000
#: The same of records that users wait behind: 20 MB, as ours are. A mistake that meets more is mended by a rebuild.
WAITING_RECORDS: Final = 20_000
#: SQL that is true of a parked record that nobody waits behind, whomever it names, if anybody.
SUSPICIOUS: Final = "user_id IS NULL"


@dataclass(frozen=True, slots=True)
class Parked:
    """A record to park; `error` is None where it only waits behind an earlier one."""

    record: Record
    #: The subject that waits behind it; None where none does.
    subject_id: UUID | None
    error: str | None
    #: The subject that a suspicious record names; None where its key is no id.
    suspect_id: UUID | None = None

    @property
    def about(self) -> UUID | None:
        """The subject that it names, ours or not."""
        return self.subject_id or self.suspect_id


@dataclass(frozen=True, slots=True)
class Suspicious:
    """The number of suspicious records that a generation has parked, and of all that it has only counted."""

    parked: int = 0
    counted: int = 0


_BLOCKED: Final = """
SELECT DISTINCT user_id FROM parked_records
WHERE projection = $1 AND generation = $2 AND user_id = ANY($3::uuid[])
"""

_PARK: Final = """
WITH kept AS (
    INSERT INTO parked_values AS v (digest, value) SELECT sha256($10), $10 WHERE $10::bytea IS NOT NULL
    -- Written, so that nobody removes it meanwhile.
    ON CONFLICT (digest) DO UPDATE SET digest = v.digest RETURNING digest
)
INSERT INTO parked_records
    (projection, generation, topic, partition, record_offset, user_id, error, key, headers, recorded_at, suspect_id,
        value_digest)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $11, $12, (SELECT digest FROM kept))
ON CONFLICT DO NOTHING
"""

_KEPT: Final = f"""
SELECT count(*) FILTER (WHERE {SUSPICIOUS})::int AS suspicious, count(*) FILTER (WHERE NOT {SUSPICIOUS})::int AS waiting
FROM parked_records WHERE projection = $1 AND generation = $2
"""  # noqa: S608 - our own text

_COUNT: Final = """
INSERT INTO counted_records AS t (projection, generation, topic, partition, records, first_offset, last_offset)
SELECT $1, $2, $3, partition, count(*), min(position), max(position)
FROM unnest($4::int[], $5::bigint[]) AS i (partition, position) GROUP BY partition
ON CONFLICT (projection, generation, topic, partition) DO UPDATE SET records = t.records + excluded.records,
    first_offset = least(t.first_offset, excluded.first_offset),
    last_offset = greatest(t.last_offset, excluded.last_offset)
"""

_COUNTS: Final = "SELECT projection, generation, count(*) AS records FROM parked_records GROUP BY 1, 2"

_ALL_SUSPICIOUS: Final = f"""
SELECT projection, generation, sum(parked)::bigint AS parked, sum(counted)::bigint AS counted FROM (
    SELECT projection, generation, 1 AS parked, 0 AS counted FROM parked_records WHERE {SUSPICIOUS}
    UNION ALL SELECT projection, generation, 0, records FROM counted_records
) AS records GROUP BY 1, 2
"""  # noqa: S608 - our own text

_OF_SUBJECTS: Final = "projection = $1 AND generation = $2 AND (user_id = ANY($3::uuid[]) OR suspect_id = ANY($3))"


async def blocked(connection: Connection, generation: Generation, subjects: Iterable[UUID]) -> set[UUID]:
    """Those of these subjects whose records have to wait."""
    rows = await connection.fetch(_BLOCKED, generation.projection, generation.number, list(subjects))
    return {row["user_id"] for row in rows}


async def park(
    connection: Connection, generation: Generation, topic: str, parked: Sequence[Parked]
) -> tuple[list[Parked], list[Parked]]:
    """Keep these records, those first that come first, or count them; one that is there already stays as it is.

    Returns:
        Those that are kept, and those that are only counted.
    """
    if not parked:
        return [], []
    owner = (generation.projection, generation.number, topic)
    found = await connection.fetchrow(_KEPT, *owner[:2])
    assert found is not None
    room = {True: SUSPICIOUS_RECORDS - found["suspicious"], False: WAITING_RECORDS - found["waiting"]}
    kept, beyond = list[Parked](), list[Parked]()
    for item in parked:
        is_suspicious = item.subject_id is None
        (kept if room[is_suspicious] > 0 else beyond).append(item)
        room[is_suspicious] -= 1
    for item in kept:
        await connection.execute(_PARK, *owner, item.record.partition, item.record.offset, *_columns(item))
    if beyond:
        # At once: a flood is thousands a second.
        places = [item.record.partition for item in beyond], [item.record.offset for item in beyond]
        await connection.execute(_COUNT, *owner, *places)
    return kept, beyond


def _columns(item: Parked) -> tuple[Any, ...]:
    record = item.record
    return (
        item.subject_id,
        None if item.error is None else item.error.replace("\0", "\\0"),
        record.key,
        pack_headers(record.headers),
        record.value,
        time_of(record),
        item.suspect_id,
    )


async def forget(connection: Connection, generation: Generation, subjects: Iterable[UUID]) -> None:
    """Remove everything parked of these subjects, and what is suspicious and names them."""
    await parked_values.remove(connection, _OF_SUBJECTS, generation.projection, generation.number, list(subjects))


async def counts(connection: Connection) -> dict[tuple[str, int], int]:
    """The number of parked records by projection and generation; a generation without any is not there."""
    return {(row["projection"], row["generation"]): row["records"] for row in await connection.fetch(_COUNTS)}


async def suspicious(connection: Connection) -> dict[tuple[str, int], Suspicious]:
    """The suspicious records, by projection and generation; what has met none is not there."""
    rows = await connection.fetch(_ALL_SUSPICIOUS)
    return {(row["projection"], row["generation"]): Suspicious(row["parked"], row["counted"]) for row in rows}


def why_flooded(counted: int) -> str:
    """The remedy where records were only counted."""
    return (
        f"met {counted:,} records beyond those that are kept parked, and counted them: `muster doctor` says who may"
        " write to the topic; then `muster events refill` publishes everybody once more, and"
        " `muster parked discard --suspicious` forgets the foreign records and the count"
    )


def pack_headers(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    """Headers as they are stored: any bytes, in order, repeated names and nulls included."""
    packed = [(name, None if value is None else base64.b64encode(value).decode()) for name, value in headers]
    return json.dumps(packed, separators=(",", ":")).encode()


def unpack_headers(packed: bytes) -> list[tuple[str, bytes | None]]:
    """Undo `pack_headers`."""
    return [(name, None if value is None else base64.b64decode(value)) for name, value in json.loads(packed)]
