"""A batch of imported users in one transaction: their rows, their events, and what became of each.

A batch nobody is in the way of, as most are, is copied into both tables, which is far less work than an INSERT. The
events follow the users in the same transaction, so their ids are taken while the users' rows are locked, as they are
everywhere. Where somebody is in the way of one of them nothing is copied: one statement writes whatever can be written
(unnest, not row by row) and appends the events of what was, and a second one explains what was left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final
from uuid import UUID

import asyncpg

from chassis.postgres.database import Database, describe
from chassis.text_keys import text_key
from command_api.causes import Cause
from command_api.users.store import ContendedError, UnexpectedViolationError, attributes_text
from events.envelope import Envelope
from events.user_events import USER_EVENTS, UserRegistered
from outbox.headers import headers_like

#: Two imports of the same people can wait for each other crosswise; PostgreSQL ends one, which is tried again.
ATTEMPTS: Final = 5
PAUSE_SECONDS: Final = 0.05

_USERS: Final = (
    "id", "version", "event_id", "status", "email", "email_key", "email_verified", "username", "username_key",
    "display_name", "attributes", "password_hash", "created_at", "updated_at",
)  # fmt: skip
_OUTBOX: Final = ("event_id", "subject_id", "value", "headers")

#: Columns of both tables, by parameter, with the arrays' types. Sorted by key, so that two imports wait in one order,
#: and then by line, so that of several with one address the first is there.
_INSERT: Final = """
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
        $10::bytea[], $11::bytea[]
    ) WITH ORDINALITY AS t (id, event_id, email, email_key, username, username_key, display_name, attributes,
        password_hash, value, headers, line)
), u AS (
    INSERT INTO users (id, version, event_id, status, email, email_key, email_verified, username, username_key,
        display_name, attributes, password_hash, created_at, updated_at)
    SELECT id, 1, event_id, 'active', email, email_key, false, username, username_key, display_name, attributes::json,
        password_hash, $12, $12
    FROM given
    WHERE NOT EXISTS (SELECT FROM erased_users WHERE erased_users.id = given.id)
    ORDER BY email_key, line
    ON CONFLICT DO NOTHING
    RETURNING id
)
INSERT INTO outbox (event_id, subject_id, value, headers)
SELECT given.event_id, u.id, given.value, given.headers FROM u JOIN given ON given.id = u.id
RETURNING subject_id
"""
#: In a statement of its own, which sees an erasure that committed while the insert waited for its row.
_ERASED_MEANWHILE: Final = "SELECT EXISTS (SELECT FROM erased_users WHERE id = ANY ($1::text::uuid[]))"
_EXPLAIN: Final = """
SELECT given.id, EXISTS (SELECT FROM users WHERE id = given.id) AS is_there,
    EXISTS (SELECT FROM erased_users WHERE id = given.id) AS is_erased,
    EXISTS (SELECT FROM users WHERE email_key = given.email_key) AS has_email,
    EXISTS (SELECT FROM users WHERE username_key = given.username_key) AS has_username
FROM unnest($1::uuid[], $2::text[], $3::text[]) AS given (id, email_key, username_key)
"""


_ANY_ID: Final = UUID(int=0)
_EMAIL_KEY: Final = _USERS.index("email_key")
_USERNAME_KEY: Final = _USERS.index("username_key")


class Outcome(Enum):
    """What became of one user of a batch."""

    CREATED = "created"
    UNCHANGED = "unchanged"
    EMAIL_TAKEN = "email taken"
    USERNAME_TAKEN = "username taken"
    ERASED = "erased"
    #: Whoever was in the way has gone since.
    CONTENDED = "contended"


@dataclass(slots=True)
class NewUser:
    """One user to insert: their row, in the order of _USERS, and their event's, in the order of _OUTBOX."""

    id: UUID
    row: tuple[Any, ...]
    event_row: tuple[Any, ...]


class Newcomers:
    """Makes the rows of those who are new at one time, because of one command.

    Each is made as soon as its line is read: what is large about a user, the event above all, is gone before the next.
    """

    def __init__(self, time: datetime, cause: Cause) -> None:
        """Their events differ in data and ids alone."""
        self.time = time
        self._headers = headers_like(
            Envelope(
                event_id=_ANY_ID,
                source=USER_EVENTS.source,
                type=UserRegistered.type(),
                subject_id=_ANY_ID,
                version=1,
                time=time,
                correlation_id=cause.correlation_id,
                causation_id=cause.command_id,
                traceparent=cause.traceparent,
            )
        )

    def add(self, event: UserRegistered, event_id: UUID, password_hash: str) -> NewUser:
        """The rows of one more."""
        user, time = event.user, self.time
        identifier, email, username = user.id, user.email, user.username
        row = (
            identifier, 1, event_id, "active", email, text_key(email), False, username, text_key(username),
            user.display_name, attributes_text(user.attributes), password_hash, time, time,
        )  # fmt: skip
        return NewUser(
            identifier, row, (event_id, identifier, USER_EVENTS.encode(event), self._headers(event_id, identifier))
        )


class Batch:
    """Newcomers of one time, ready to be sent, and so made ahead of its turn."""

    def __init__(self, users: Sequence[NewUser], time: datetime) -> None:
        """Their ids must differ."""
        self.users = users
        self.time = time
        # Sorted by key, and then by line, as the statement sorts them.
        in_order = sorted(users, key=_email_key)
        self.user_rows = [user.row for user in in_order]
        self.event_rows = [user.event_row for user in in_order]


class ImportStore:
    """Inserts batches."""

    def __init__(self, database: Database) -> None:
        """Nothing is connected yet."""
        self._database = database

    async def insert(self, batch: Batch) -> Mapping[UUID, Outcome]:
        """Insert those who can be, all at once, and say what became of each.

        Raises:
            ContendedError: others held the same people for too long; nothing was written.
            DatabaseUnavailableError: it cannot be asked now. The batch may be there, or not; with ids of their own the
                lines can be sent again.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._database.connection() as connection:
                    return await _insert(connection, batch)
            except (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError, _ErasedMeanwhileError) as error:
                if attempt == ATTEMPTS:
                    raise ContendedError(describe(error)) from error
            except asyncpg.IntegrityConstraintViolationError as error:
                raise UnexpectedViolationError(error.constraint_name or type(error).__name__) from None
            await asyncio.sleep(PAUSE_SECONDS * attempt)
        raise AssertionError("the last attempt returns or raises")


class _ErasedMeanwhileError(Exception):
    """A person was erased while the batch waited for their row: it must not come back."""


async def _insert(connection: Any, batch: Batch) -> dict[UUID, Outcome]:
    if await _copied(connection, batch):
        return dict.fromkeys((user.id for user in batch.users), Outcome.CREATED)
    async with connection.transaction():
        created = {row["subject_id"] for row in await connection.fetch(_INSERT, *_columns(batch))}
        await _refuse_erased(connection, created)
    outcomes = dict.fromkeys(created, Outcome.CREATED)
    left = [user for user in batch.users if user.id not in created]
    if left:
        emails, names = [user.row[_EMAIL_KEY] for user in left], [user.row[_USERNAME_KEY] for user in left]
        rows = await connection.fetch(_EXPLAIN, [user.id for user in left], emails, names)
        outcomes.update({row["id"]: _explain(row) for row in rows})
    return outcomes


async def _copied(connection: Any, batch: Batch) -> bool:
    """Copy the whole batch; False where somebody is in the way of one of them, and nothing was written."""
    try:
        async with connection.transaction():
            await connection.copy_records_to_table("users", columns=_USERS, records=batch.user_rows)
            await connection.copy_records_to_table("outbox", columns=_OUTBOX, records=batch.event_rows)
            await _refuse_erased(connection, (user.id for user in batch.users))
    except (asyncpg.UniqueViolationError, _ErasedMeanwhileError):
        return False
    return True


async def _refuse_erased(connection: Any, ids: Iterable[UUID]) -> None:
    # As text: asyncpg asks of every element of an array whether it is an array itself.
    if await connection.fetchval(_ERASED_MEANWHILE, f"{{{','.join(map(str, ids))}}}"):
        raise _ErasedMeanwhileError


def _explain(row: Any) -> Outcome:
    if row["is_there"]:
        return Outcome.UNCHANGED
    if row["is_erased"]:
        return Outcome.ERASED
    if row["has_email"]:
        return Outcome.EMAIL_TAKEN
    return Outcome.USERNAME_TAKEN if row["has_username"] else Outcome.CONTENDED


def _email_key(user: NewUser) -> str:
    key: str = user.row[_EMAIL_KEY]
    return key


def _columns(batch: Batch) -> tuple[Any, ...]:
    """The parameters of _INSERT."""
    columns = dict(zip(_USERS, zip(*batch.user_rows, strict=True), strict=True))
    events = dict(zip(_OUTBOX, zip(*batch.event_rows, strict=True), strict=True))
    names = ("id", "event_id", "email", "email_key", "username", "username_key", "display_name", "attributes")
    return (
        *(columns[name] for name in names),
        columns["password_hash"],
        events["value"],
        events["headers"],
        batch.time,
    )
