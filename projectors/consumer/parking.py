"""Parking: a record that cannot be applied waits in the query database, and its subject's later records behind it.

Only that subject waits, and only in that generation; all others flow on. A tombstone never waits: it takes the
subject's parked records away with everything else. The record itself is parked, byte for byte, so that a later version
of the code can retry it (projectors/operations/parked.py).

The column `user_id` holds the id of any subject: renaming it would break the version before, which runs while the
database is migrated.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from chassis.postgres.database import Connection
from projectors.decoding.records import Record, time_of
from read_model.generations import Generation


@dataclass(frozen=True, slots=True)
class Parked:
    """A record to park; `error` is None where it only waits behind an earlier one."""

    record: Record
    subject_id: UUID | None
    error: str | None


_BLOCKED: Final = """
SELECT DISTINCT user_id FROM parked_records
WHERE projection = $1 AND generation = $2 AND user_id = ANY($3::uuid[])
"""

_PARK: Final = """
INSERT INTO parked_records
    (projection, generation, topic, partition, record_offset, user_id, error, key, headers, value, recorded_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT DO NOTHING
"""

_COUNTS: Final = "SELECT projection, generation, count(*) AS records FROM parked_records GROUP BY 1, 2"

_FORGET: Final = "DELETE FROM parked_records WHERE projection = $1 AND generation = $2 AND user_id = ANY($3::uuid[])"


async def blocked(connection: Connection, generation: Generation, subjects: Iterable[UUID]) -> set[UUID]:
    """Those of these subjects whose records have to wait."""
    rows = await connection.fetch(_BLOCKED, generation.projection, generation.number, list(subjects))
    return {row["user_id"] for row in rows}


async def park(connection: Connection, generation: Generation, topic: str, parked: Sequence[Parked]) -> None:
    """Keep these records; one that is there already stays as it is."""
    for item in parked:
        record = item.record
        await connection.execute(
            _PARK,
            generation.projection,
            generation.number,
            topic,
            record.partition,
            record.offset,
            item.subject_id,
            None if item.error is None else item.error.replace("\0", "\\0"),
            record.key,
            pack_headers(record.headers),
            record.value,
            time_of(record),
        )


async def forget(connection: Connection, generation: Generation, subjects: Iterable[UUID]) -> None:
    """Remove everything parked of these subjects."""
    await connection.execute(_FORGET, generation.projection, generation.number, list(subjects))


async def counts(connection: Connection) -> dict[tuple[str, int], int]:
    """How many records are parked, by projection and generation; what has none is not there."""
    return {(row["projection"], row["generation"]): row["records"] for row in await connection.fetch(_COUNTS)}


def pack_headers(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    """Headers as they are stored: any bytes, in order, repeated names and nulls included."""
    packed = [(name, None if value is None else base64.b64encode(value).decode()) for name, value in headers]
    return json.dumps(packed, separators=(",", ":")).encode()


def unpack_headers(packed: bytes) -> list[tuple[str, bytes | None]]:
    """What `pack_headers` was given."""
    return [(name, None if value is None else base64.b64decode(value)) for name, value in json.loads(packed)]
