"""Deletes one-time tokens that have expired. The leading relay runs this job, since there is exactly one.

They hold no more in any case: this keeps the table small, and the digest of an address no longer than its token.
"""

from __future__ import annotations

from typing import Final

import structlog

from chassis.postgres.database import Connection
from command_api.idempotency.purge import BATCH_ROWS, delete_in_batches
from outbox.relay.maintenance import Job

log = structlog.get_logger("command.one_time_tokens")

#: Tokens live an hour to a week; a minute more changes nothing.
INTERVAL_SECONDS: Final = 60.0

_DELETE: Final = """
DELETE FROM one_time_tokens WHERE digest = ANY (ARRAY(
    SELECT digest FROM one_time_tokens WHERE expires_at <= now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
))
"""


async def purge(connection: Connection, batch: int = BATCH_ROWS) -> int:
    """Delete every expired token, `batch` at a time; gives how many there were. Locked ones wait for the next time."""
    return await delete_in_batches(connection, _DELETE, batch=batch)


async def _run(connection: Connection) -> None:
    if purged := await purge(connection):
        log.info("command.tokens_purged", tokens=purged)


PURGE_TOKENS: Final = Job("purge tokens", INTERVAL_SECONDS, _run)
