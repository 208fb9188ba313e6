"""Finds out whether a commit whose reply was lost has happened.

The rows are the evidence. A committed change left the user's row with the id of its event, and the event in the outbox
until the relay has published it. Both were written in the transaction in question, with ids made for it. A stored
answer is no evidence: a duplicate of the request in another process may have stored it. `pg_xact_status` is none
either. A change is one statement, so the id of its transaction never reached us; and after a crash PostgreSQL gives the
ids of transactions that left no flushed commit to others, as tests/integration/command_api/users/test_lost_replies.py
shows.

The rows are read only once the old backend has ended its transaction: until then it may still commit.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from chassis.lifecycle import Backoff
from chassis.postgres.database import NO_CONNECTION, Connection, describe, session
from chassis.settings import PostgresAddress
from events.envelope import Envelope
from events.user_events import USER_EVENTS

log = structlog.get_logger("command.settlement")

#: A small database is back within two seconds of a crash; no client waits longer than 5 s for the answer to a command,
#: and its transaction may have taken TRANSACTION_SECONDS (command_api/http/dependencies.py) of them.
SETTLE_SECONDS: Final = 2.0
RETRY_FIRST_SECONDS: Final = 0.02
RETRY_CAP_SECONDS: Final = 0.5

#: The operating system does not use a process id again within seconds, so its transaction is the one in question.
_STILL_RUNNING: Final = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1 AND xact_start IS NOT NULL)"
_EVIDENCE: Final = """
SELECT u.version, u.event_id = $2 AS is_ours, e.version AS erased_version,
       EXISTS (SELECT FROM outbox WHERE event_id = $2 AND subject_id = $1) AS in_outbox
FROM (SELECT $1::uuid AS id) AS asked
LEFT JOIN users AS u ON u.id = asked.id
LEFT JOIN erased_users AS e ON e.id = asked.id
"""


class OutcomeUnknownError(Exception):
    """The reply to a commit was lost, and whether it happened could not be found out."""


async def has_committed(address: PostgresAddress, envelope: Envelope, backend: int) -> bool:
    """True where the commit of the event with this envelope happened; `backend` is the server process for it.

    Raises:
        OutcomeUnknownError: the database did not answer within SETTLE_SECONDS, or later commands have changed its rows.
    """
    bound = log.bind(
        user_id=str(envelope.subject_id),
        command_id=envelope.causation_id,
        actor=envelope.actor,
        on_behalf_of=envelope.on_behalf_of,
    )
    try:
        async with asyncio.timeout(SETTLE_SECONDS):
            committed = await _ask_until_answered(address, envelope, backend)
    except TimeoutError:
        committed = None
    bound.warning("command.reply_lost", committed=committed)
    if committed is None:
        raise OutcomeUnknownError
    return committed


async def _ask_until_answered(address: PostgresAddress, envelope: Envelope, backend: int) -> bool | None:
    backoff = Backoff(first=RETRY_FIRST_SECONDS, cap=RETRY_CAP_SECONDS)
    while True:
        try:
            async with session(address, application="muster settlement") as connection:
                if not await connection.fetchval(_STILL_RUNNING, backend):
                    return await _evidence(connection, envelope)
        except NO_CONNECTION as error:
            log.info("command.settlement_waits", error=describe(error))
        await asyncio.sleep(backoff.next())


async def _evidence(connection: Connection, envelope: Envelope) -> bool | None:
    row = await connection.fetchrow(_EVIDENCE, envelope.subject_id, envelope.event_id)
    assert row is not None, "outer joins from one row"
    if row["is_ours"] or row["in_outbox"]:
        return True
    return infer_from_versions(envelope, row["version"], row["erased_version"])


def infer_from_versions(envelope: Envelope, version: int | None, erased_version: int | None) -> bool | None:
    """True where it happened, by the user's versions, where the event is not found; None where they cannot tell.

    Each version belongs to one event. So if the user is at our version by another event, or at a lower one, ours was
    not committed.
    """
    if erased_version is not None and envelope.type == USER_EVENTS.tombstone_type:
        return True  # by this erasure or another one: the person is forgotten, as was asked
    newest = version if erased_version is None else erased_version
    if newest is None or newest <= envelope.version:
        return False
    # Later commands have overwritten the evidence. But a registration's id was made for it alone, so where there is or
    # was such a user, the registration was committed.
    return True if envelope.version == 1 else None
