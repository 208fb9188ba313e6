"""The values of parked records, which are kept once, however many generations park them, and go with the last of these.

A value may be personal. So whoever removes the last record that has it removes the value in the same transaction; of
two that remove one each, the second waits for the first.
"""

from __future__ import annotations

from typing import Any, Final

from chassis.postgres.database import Connection

_REMOVE: Final = "DELETE FROM parked_records WHERE {condition} RETURNING value_digest"
_HOLD: Final = "SELECT FROM parked_values WHERE digest = ANY($1::bytea[]) ORDER BY digest FOR UPDATE"
_DROP: Final = """
DELETE FROM parked_values v WHERE v.digest = ANY($1::bytea[])
    AND NOT EXISTS (SELECT FROM parked_records p WHERE p.value_digest = v.digest)
"""


async def remove(connection: Connection, condition: str, *arguments: Any) -> int:
    """Remove the parked records that meet the condition, in the caller's transaction, and return how many they were."""
    rows = await connection.fetch(_REMOVE.format(condition=condition), *arguments)
    digests = list({row["value_digest"] for row in rows if row["value_digest"] is not None})
    if digests:
        # Two statements: the second sees what others removed while the first waited for them.
        await connection.execute(_HOLD, digests)
        await connection.execute(_DROP, digests)
    return len(rows)
