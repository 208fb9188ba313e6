"""Deletes stored answers after a day. The leading relay runs this job, since there is exactly one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import structlog

from chassis.postgres.database import COMMAND_SECONDS, Connection
from command_api.idempotency.records import USE_NOTED
from outbox.relay.maintenance import Job

log = structlog.get_logger("command.idempotency")

#: An answer is replayed for so long, at least; after that the key is free again.
KEPT: Final = timedelta(hours=24)
#: A body's use is noted at most once an hour. So bodies are kept two hours longer, and a record goes before its body.
BODIES_KEPT: Final = KEPT + 2 * USE_NOTED
#: Rows of one statement, few enough that its locks and its WAL disturb nobody.
BATCH_ROWS: Final = 1000
#: Stored answers live a day; a minute more changes nothing.
INTERVAL_SECONDS: Final = 60.0

_DELETE: Final = """
DELETE FROM idempotency_records WHERE digest = ANY (ARRAY(
    SELECT digest FROM idempotency_records WHERE created_at < now() - $1::interval
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
))
"""
_DELETE_BODIES: Final = """
WITH unused AS MATERIALIZED (
    SELECT subject_id, digest FROM idempotency_bodies WHERE used_at < now() - $1::interval
    ORDER BY used_at LIMIT $2 FOR UPDATE SKIP LOCKED
)
DELETE FROM idempotency_bodies USING unused
WHERE idempotency_bodies.subject_id = unused.subject_id AND idempotency_bodies.digest = unused.digest
"""


async def purge(connection: Connection, batch: int = BATCH_ROWS) -> int:
    """Delete every record older than KEPT, the oldest first, `batch` at a time; gives how many were deleted.

    Bodies that no record uses any more go, too. What is locked is left for the next time.
    """
    records = await delete_in_batches(connection, _DELETE, KEPT, batch=batch)
    await delete_in_batches(connection, _DELETE_BODIES, BODIES_KEPT, batch=batch)
    return records


async def delete_in_batches(connection: Connection, statement: str, *arguments: Any, batch: int = BATCH_ROWS) -> int:
    """Run a DELETE, whose last parameter is the most rows it may take, while there are as many; gives all together."""
    purged, deleted = 0, batch
    while deleted == batch:
        status: str = await connection.execute(statement, *arguments, batch, timeout=COMMAND_SECONDS)
        deleted = int(status.rpartition(" ")[2])
        purged += deleted
    return purged


async def _run(connection: Connection) -> None:
    if purged := await purge(connection):
        log.info("idempotency.answers_purged", records=purged)


PURGE: Final = Job("purge", INTERVAL_SECONDS, _run)
