"""Repaired users: their records before a position of the topic do not count, for any generation.

`muster repair` writes the notes, and how far they reach, beside each checkpoint (projectors/operations/repair.py); a
checkpoint that is made later begins with that. A feed whose checkpoint is not yet past that point looks up whom of a
batch they name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

from chassis.postgres.database import Connection
from projectors.decoding.records import DecodedEvent, Poison
from read_model.generations import Generation

# A repair marks the checkpoints that are there, and whoever makes some copies the marks of the repairs that are there.
# Beside one another each would miss the other's.
_TURN: Final = "SELECT pg_advisory_xact_lock(7461902116)"

_REPAIRED: Final = """
SELECT r.user_id, r.partition, r.position FROM repaired_users r
JOIN checkpoints c ON c.topic_id = r.topic_id AND c.partition = r.partition
WHERE c.projection = $1 AND c.generation = $2 AND c.topic = $3 AND r.user_id = ANY($4::uuid[])
"""


async def take_turn(connection: Connection) -> None:
    """Keep repairs, and the making of checkpoints, out until the caller's transaction ends."""
    await connection.execute(_TURN)


async def without_repaired(
    connection: Connection, generation: Generation, topic: str, items: Sequence[DecodedEvent | Poison]
) -> list[DecodedEvent | Poison]:
    """Those of these items that count."""
    rows = await connection.fetch(_REPAIRED, generation.projection, generation.number, topic, _subjects(items))
    until = {(row["user_id"], row["partition"]): row["position"] for row in rows}
    return [item for item in items if item.record.offset >= until.get((item.subject_id, item.record.partition), 0)]


def _subjects(items: Iterable[DecodedEvent | Poison]) -> list[UUID]:
    return list({item.subject_id for item in items if item.subject_id is not None})
