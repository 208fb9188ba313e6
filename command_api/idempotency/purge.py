"""Deletes stored answers after a day. The leading relay runs this job, since there is exactly one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import structlog

from chassis.postgres.database import COMMAND_SECONDS, Connection
from outbox.relay.maintenance import Job

log = structlog.get_logger("command.idempotency")

#: How long an answer is replayed at least; after that the key is free again.
KEPT: Final = timedelta(hours=24)
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


async def purge(connection: Connection, batch: int = BATCH_ROWS) -> int:
    """Delete every record older than KEPT, the oldest first, `batch` at a time; gives how many were deleted.

    Locked records are left for the next time.
    """
    return await delete_in_batches(connection, _DELETE, KEPT, batch=batch)


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
