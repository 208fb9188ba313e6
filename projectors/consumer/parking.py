"""Parking: a record that cannot be applied waits in the query database, and its user's later records behind it.

Only that user waits, in that generation only; everybody else flows on. A tombstone never waits: it takes the person's
parked records away with everything else. What is parked is the record itself, byte for byte, so that a later version of
the code can retry it (projectors/operations/parked.py).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from projectors.decoding.records import Record, time_of
from read_model.generations import Connection, Generation


@dataclass(frozen=True, slots=True)
class Parked:
    """A record to park; `error` is None where it only waits behind an earlier one."""

    record: Record
    user_id: UUID | None
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

_FORGET: Final = "DELETE FROM parked_records WHERE projection = $1 AND generation = $2 AND user_id = ANY($3::uuid[])"


async def blocked_users(connection: Connection, generation: Generation, users: Iterable[UUID]) -> set[UUID]:
    """Those of these users whose records have to wait."""
    rows = await connection.fetch(_BLOCKED, generation.projection, generation.number, list(users))
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
            item.user_id,
            None if item.error is None else item.error.replace("\0", "\\0"),
            record.key,
            pack_headers(record.headers),
            record.value,
            time_of(record),
        )


async def forget(connection: Connection, generation: Generation, users: Iterable[UUID]) -> None:
    """Remove everything parked of these users."""
    await connection.execute(_FORGET, generation.projection, generation.number, list(users))


def pack_headers(headers: Sequence[tuple[str, bytes | None]]) -> bytes:
    """Headers as they are stored: any bytes, in order, repeated names and nulls included."""
    packed = [(name, None if value is None else base64.b64encode(value).decode()) for name, value in headers]
    return json.dumps(packed, separators=(",", ":")).encode()


def unpack_headers(packed: bytes) -> list[tuple[str, bytes | None]]:
    """What `pack_headers` was given."""
    return [(name, None if value is None else base64.b64decode(value)) for name, value in json.loads(packed)]
