"""Whether a commit whose reply was lost has happened.

The rows themselves are the evidence: a committed change is the user's row with this event's id, or the event still in
the outbox. Each was written in the very transaction that is asked about, with ids made for it. (A stored answer is no
evidence: a duplicate of the request in another process may have stored it.)
`pg_xact_status` is not asked: a change is one statement, so its transaction's id never reached us; and after a crash
PostgreSQL hands out again the ids of transactions that left no flushed commit, so that the status of such an id can be
somebody else's (tests/integration/command_api/test_settlement.py shows it).

The evidence counts only once the old backend has ended its transaction: it may still be about to commit.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import structlog

from chassis.lifecycle import Backoff
from chassis.postgres.database import INFRASTRUCTURE_ERRORS, connect, describe, disconnect
from chassis.settings import PostgresAddress
from events.envelope import Envelope
from events.user_events import USER_EVENTS

log = structlog.get_logger("command.settlement")

#: A server that crashed is back within seconds on a small database; nobody waits longer for the answer to a command.
SETTLE_SECONDS: Final = 5.0
RETRY_FIRST_SECONDS: Final = 0.02
RETRY_CAP_SECONDS: Final = 0.5

#: A process id is not used again within seconds, so a transaction under this one is the one in question.
_STILL_RUNNING: Final = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND xact_start IS NOT NULL)"
_EVIDENCE: Final = """
SELECT u.version, u.event_id = $2 AS is_ours, e.version AS erased_version,
       EXISTS (SELECT FROM outbox WHERE event_id = $2 AND subject_id = $1) AS in_outbox
FROM (SELECT $1::uuid AS id) AS asked
LEFT JOIN users AS u ON u.id = asked.id
LEFT JOIN erased_users AS e ON e.id = asked.id
"""


class OutcomeUnknownError(Exception):
    """The reply to a commit was lost, and nothing tells whether it happened."""


async def settle(address: PostgresAddress, envelope: Envelope, backend: int) -> bool:
    """Whether the commit happened.

    Raises:
        OutcomeUnknownError: the database did not tell within SETTLE_SECONDS, or its rows have moved on since.
    """
    bound = log.bind(user_id=str(envelope.subject_id), command_id=envelope.causation_id)
    try:
        async with asyncio.timeout(SETTLE_SECONDS):
            committed = await _until_told(address, envelope, backend)
    except TimeoutError:
        committed = None
    bound.warning("command.reply_lost", committed=committed)
    if committed is None:
        raise OutcomeUnknownError
    return committed


async def _until_told(address: PostgresAddress, envelope: Envelope, backend: int) -> bool | None:
    backoff = Backoff(first=RETRY_FIRST_SECONDS, cap=RETRY_CAP_SECONDS)
    while True:
        try:
            connection = await connect(address, application="muster settlement")
            try:
                if not await connection.fetchval(_STILL_RUNNING, backend):
                    return await _judge(connection, envelope)
            finally:
                await disconnect(connection)
        except INFRASTRUCTURE_ERRORS as error:
            log.info("command.settlement_waits", error=describe(error))
        await asyncio.sleep(backoff.next())


async def _judge(connection: Any, envelope: Envelope) -> bool | None:
    row = await connection.fetchrow(_EVIDENCE, envelope.subject_id, envelope.event_id)
    if row["is_ours"] or row["in_outbox"]:
        return True
    return judge(envelope, row["version"], row["erased_version"])


def judge(envelope: Envelope, version: int | None, erased_version: int | None) -> bool | None:
    """What the user's version says where the event itself is not to be found; None where it says nothing.

    A version belongs to one event alone, so another event at ours or a lower one means that ours was not committed.
    """
    if erased_version is not None and envelope.type == USER_EVENTS.tombstone_type:
        return True  # by this erasure or another one: the person is forgotten, which is all that was asked for
    newest = version if erased_version is None else erased_version
    if newest is None or newest <= envelope.version:
        return False
    # Later commands have covered the traces. A registration's id was made for it: where the user is, or was, it was.
    return True if envelope.version == 1 else None
