"""Deletes counters of attempts that mean nothing any more. The leading relay runs this job, since there is exactly one.

They would refuse nobody in any case: this keeps the table small, and nobody's mark longer than it counts.
"""

from __future__ import annotations

from typing import Final

import structlog

from chassis.postgres.database import Connection
from command_api.idempotency.purge import BATCH_ROWS, delete_in_batches
from outbox.relay.maintenance import Job

log = structlog.get_logger("command.credentials")

#: There is no index, so that a charge stays cheap: each run reads the table, which has the failures of an hour.
INTERVAL_SECONDS: Final = 300.0

_DELETE: Final = """
DELETE FROM credential_attempts WHERE counter = ANY (ARRAY(
    SELECT counter FROM credential_attempts WHERE expires_at <= now() LIMIT $1 FOR UPDATE SKIP LOCKED
))
"""


async def purge(connection: Connection, batch: int = BATCH_ROWS) -> int:
    """Delete what has expired, `batch` at a time; gives how many. Locked ones wait for the next time."""
    return await delete_in_batches(connection, _DELETE, batch=batch)


async def _run(connection: Connection) -> None:
    if purged := await purge(connection):
        log.info("credentials.counters_purged", counters=purged)


PURGE_ATTEMPTS: Final = Job("purge attempts", INTERVAL_SECONDS, _run)
