"""Deletes what means nothing any more: counters of attempts, and one-time tokens that have expired.

Neither would refuse or open anything in any case: this keeps the tables small, nobody's mark longer than it counts, and
the digest of an address no longer than its token. The leading relay runs both jobs, since there is exactly one.
"""

from __future__ import annotations

from typing import Final

import structlog

from chassis.postgres.database import Connection
from command_api.idempotency.purge import BATCH_ROWS, delete_in_batches
from outbox.relay.maintenance import Job

log = structlog.get_logger("command.credentials")

#: There is no index, so that a charge stays cheap: each run reads the table, which has the failures of an hour.
ATTEMPTS_SECONDS: Final = 300.0
#: Tokens live an hour to a week; a minute more changes nothing.
TOKENS_SECONDS: Final = 60.0

_DELETE_ATTEMPTS: Final = """
DELETE FROM credential_attempts WHERE counter = ANY (ARRAY(
    SELECT counter FROM credential_attempts WHERE expires_at <= now() LIMIT $1 FOR UPDATE SKIP LOCKED
))
"""
_DELETE_TOKENS: Final = """
DELETE FROM one_time_tokens WHERE digest = ANY (ARRAY(
    SELECT digest FROM one_time_tokens WHERE expires_at <= now() ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
))
"""


async def purge_attempts(connection: Connection, batch: int = BATCH_ROWS) -> int:
    """Delete expired counters, `batch` at a time; gives how many there were. Locked ones wait for the next time."""
    return await delete_in_batches(connection, _DELETE_ATTEMPTS, batch=batch)


async def purge_tokens(connection: Connection, batch: int = BATCH_ROWS) -> int:
    """Delete expired tokens, as `purge_attempts`."""
    return await delete_in_batches(connection, _DELETE_TOKENS, batch=batch)


async def _run_attempts(connection: Connection) -> None:
    if purged := await purge_attempts(connection):
        log.info("credentials.counters_purged", counters=purged)


async def _run_tokens(connection: Connection) -> None:
    if purged := await purge_tokens(connection):
        log.info("command.tokens_purged", tokens=purged)


PURGE_ATTEMPTS: Final = Job("purge attempts", ATTEMPTS_SECONDS, _run_attempts)
PURGE_TOKENS: Final = Job("purge tokens", TOKENS_SECONDS, _run_tokens)
