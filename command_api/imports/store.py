"""A batch of imported users in one transaction: their rows, their events, and the outcome of each.

Most batches meet nobody who is there already. Such a batch is copied into both tables, which is far less work than an
INSERT. The events follow the users in the same transaction, so their ids are taken while the users' rows are locked, as
they are everywhere. Where one of the users meets somebody, in the database or in the batch, nothing is copied: one
query tells who is there, the lines are gone through in their order, and those who are left are copied.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from functools import cache
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from chassis.postgres.database import Connection, Database, DatabaseUnavailableError, RolledBackError, describe
from command_api.imports import given_ids
from command_api.users.context import Cause
from command_api.users.lost_replies import OutcomeUnknownError
from command_api.users.rows import COLUMNS, user_row
from command_api.users.store import UnexpectedViolationError
from events.envelope import Envelope
from events.user_events import USER_EVENTS, UserRegistered
from outbox.headers import headers_like

#: Two imports of the same people can wait for each other crosswise. PostgreSQL ends one of them, which tries again.
INSERT_ATTEMPTS: Final = 5
#: The pause after the first attempt; it grows with each.
INSERT_PAUSE_SECONDS: Final = 0.05
#: The most that one attempt may take; a full batch takes a tenth of a second, on a slow disk a few.
INSERT_SECONDS: Final = 15.0

_OUTBOX_COLUMNS: Final = ("event_id", "subject_id", "value", "headers")
_EMAIL_KEY: Final = COLUMNS.index("email_key")
_USERNAME_KEY: Final = COLUMNS.index("username_key")


#: A statement of its own sees an erasure that committed while the insert waited for its row.
_ERASED_MEANWHILE: Final = "SELECT EXISTS (SELECT FROM erased_users WHERE id = ANY ($1::text::uuid[]))"
#: The rows that each user meets, in the order in which users are given. No EXISTS: for that, a plan that is made while
#: the tables are empty reads all users, each time.
_MEETINGS: Final = """
SELECT (SELECT true FROM users WHERE id = given.id) AS is_there,
    (SELECT true FROM erased_users WHERE id = given.id) AS is_erased,
    (SELECT true FROM users WHERE email_key = given.email_key) AS has_email,
    (SELECT true FROM users WHERE username_key = given.username_key) AS has_username
FROM unnest($1::uuid[], $2::text[], $3::text[]) WITH ORDINALITY AS given (id, email_key, username_key, line)
ORDER BY line
"""

_ANY_ID: Final = UUID(int=0)


class ImportOutcome(Enum):
    """The outcome for one user of a batch."""

    CREATED = "created"
    UNCHANGED = "unchanged"
    EMAIL_TAKEN = "email taken"
    USERNAME_TAKEN = "username taken"
    ERASED = "erased"
    #: Others had what it needs a moment ago; a retry will probably succeed.
    CONTENDED = "contended"


@dataclass(slots=True)
class NewUser:
    """One user to insert: their row, in the order of COLUMNS, and their event's, in that of _OUTBOX_COLUMNS."""

    id: UUID
    row: tuple[Any, ...]
    event_row: tuple[Any, ...]


class RowMaker:
    """Makes the rows of users who are registered at one time, by one command.

    A line's rows are made as soon as it is read, so that what is large about a user, the event above all, does not stay
    in memory until the batch is complete.
    """

    def __init__(self, time: datetime, cause: Cause) -> None:
        """The users' envelopes differ in ids alone, but where the user is who imports."""
        self.time = time
        self._cause = cause
        self._headers = cache(self._headers_by)

    def make(self, event: UserRegistered, event_id: UUID, password_hash: str | None) -> NewUser:
        """The rows of one user."""
        user_id = event.user.id
        headers = self._headers(self._cause.actor(user_id))(event_id, user_id)
        return NewUser(
            user_id,
            user_row(event.user, event_id, password_hash),
            (event_id, user_id, USER_EVENTS.encode(event), headers),
        )

    def _headers_by(self, actor: str | None) -> Callable[[UUID, UUID], bytes]:
        return headers_like(
            Envelope(
                event_id=_ANY_ID,
                source=USER_EVENTS.source,
                type=UserRegistered.type(),
                subject_id=_ANY_ID,
                version=1,
                time=self.time,
                correlation_id=self._cause.correlation_id,
                causation_id=self._cause.command_id,
                actor=actor,
                on_behalf_of=self._cause.on_behalf_of,
                traceparent=self._cause.traceparent,
            )
        )


@dataclass(slots=True)
class ImportBatch:
    """Users in the order of their lines; an id, an address or a name may come twice."""

    users: Sequence[NewUser]
    #: True once a COMMIT of it was on its way.
    committing: bool = False


class Taken(NamedTuple):
    """Ids and keys that the users of earlier batches would have, had a dry run inserted them."""

    ids: set[UUID]
    emails: set[str]
    usernames: set[str]

    @classmethod
    def nobody(cls) -> Taken:
        """The state in which a dry run begins."""
        return cls(set(), set(), set())

    def add(self, user: NewUser) -> None:
        """Take what this user has."""
        self.ids.add(user.id)
        self.emails.add(user.row[_EMAIL_KEY])
        self.usernames.add(user.row[_USERNAME_KEY])


@dataclass(frozen=True, slots=True)
class ImportStore:
    """Inserts batches, or foresees what would become of them."""

    _database: Database

    async def insert(self, batch: ImportBatch) -> list[ImportOutcome]:
        """Insert those users of a batch who can be inserted, in one transaction, and give the outcome of each.

        The outcomes are in the order of the users. Of several with one id, address or name the first that can be
        inserted is.

        Raises:
            OutcomeUnknownError: the reply to the commit was lost, and the database could not be asked again.
            DatabaseUnavailableError: it cannot be asked now; nothing was written.
        """
        return await self._patiently(batch, lambda connection: _insert(connection, batch))

    async def foresee(self, batch: ImportBatch, taken: Taken) -> list[ImportOutcome]:
        """The outcomes of `insert`, without any change or lock; those who would be created are `taken` afterwards.

        Raises:
            DatabaseUnavailableError: it cannot be asked now.
        """
        outcomes = await self._patiently(batch, lambda connection: _foresee(connection, batch, taken))
        for user, outcome in zip(batch.users, outcomes, strict=True):
            if outcome is ImportOutcome.CREATED:
                taken.add(user)
        return outcomes

    async def _patiently(
        self, batch: ImportBatch, work: Callable[[Connection], Awaitable[list[ImportOutcome]]]
    ) -> list[ImportOutcome]:
        """Do the work; again where PostgreSQL gave it up for others, or it must be learned whether it was done."""
        for attempt in range(1, INSERT_ATTEMPTS + 1):
            in_doubt = batch.committing
            try:
                async with self._database.connection(INSERT_SECONDS) as connection:
                    return await work(connection)
            except asyncpg.IntegrityConstraintViolationError as error:
                raise UnexpectedViolationError(error.constraint_name or type(error).__name__) from None
            except (DatabaseUnavailableError, _ErasedMeanwhileError) as error:
                # A batch that was committed without our hearing of it is found there by the next attempt.
                again = batch.committing or isinstance(error, (RolledBackError, _ErasedMeanwhileError))
                if in_doubt:
                    raise OutcomeUnknownError from error
                if not again or attempt == INSERT_ATTEMPTS:
                    raise DatabaseUnavailableError(f"not imported: {describe(error)}") from error
            await asyncio.sleep(INSERT_PAUSE_SECONDS * attempt)
        raise AssertionError("the last attempt returns or raises")


class _ErasedMeanwhileError(Exception):
    """A person was erased while the batch waited for their row: it must not come back."""


async def _insert(connection: Connection, batch: ImportBatch) -> list[ImportOutcome]:
    outcomes: list[ImportOutcome | None] = [None] * len(batch.users)
    for _ in range(INSERT_ATTEMPTS):
        left = [user for user, outcome in zip(batch.users, outcomes, strict=True) if outcome is None]
        if not left or await _copy(connection, batch, left):
            return [outcome or ImportOutcome.CREATED for outcome in outcomes]
        outcomes = await _look(connection, batch.users, Taken.nobody())
    return [outcome or ImportOutcome.CONTENDED for outcome in outcomes]


async def _foresee(connection: Connection, batch: ImportBatch, taken: Taken) -> list[ImportOutcome]:
    return [outcome or ImportOutcome.CREATED for outcome in await _look(connection, batch.users, taken)]


async def _copy(connection: Connection, batch: ImportBatch, users: Sequence[NewUser]) -> bool:
    """Copy all of these users; False where one of them cannot be inserted, and nothing was written."""
    # Sorted, so that two imports of the same people wait for each other in one order.
    in_order = sorted(users, key=_email_key)
    try:
        async with connection.transaction():
            await given_ids.bring(connection)
            await connection.copy_records_to_table("users", columns=COLUMNS, records=[user.row for user in in_order])
            events = [user.event_row for user in in_order]
            await connection.copy_records_to_table("outbox", columns=_OUTBOX_COLUMNS, records=events)
            await _refuse_erased(connection, (user.id for user in in_order))
            batch.committing = True
    except (asyncpg.UniqueViolationError, _ErasedMeanwhileError):
        return False
    batch.committing = False
    return True


async def _refuse_erased(connection: Connection, ids: Iterable[UUID]) -> None:
    # The ids go as text: asyncpg asks of every element of an array whether it is an array itself.
    if await connection.fetchval(_ERASED_MEANWHILE, f"{{{','.join(map(str, ids))}}}"):
        raise _ErasedMeanwhileError


async def _look(connection: Connection, users: Sequence[NewUser], taken: Taken) -> list[ImportOutcome | None]:
    """The outcome for each user, the lines gone through in their order; None of those who can be inserted."""
    keys = [_email_key(user) for user in users], [user.row[_USERNAME_KEY] for user in users]
    meetings = await connection.fetch(_MEETINGS, [user.id for user in users], *keys)
    taken = Taken(set(taken.ids), set(taken.emails), set(taken.usernames))
    outcomes: list[ImportOutcome | None] = []
    for user, email, username, met in zip(users, *keys, meetings, strict=True):
        if met["is_there"] or user.id in taken.ids:
            outcomes.append(ImportOutcome.UNCHANGED)
        elif met["is_erased"]:
            outcomes.append(ImportOutcome.ERASED)
        elif met["has_email"] or email in taken.emails:
            outcomes.append(ImportOutcome.EMAIL_TAKEN)
        elif met["has_username"] or username in taken.usernames:
            outcomes.append(ImportOutcome.USERNAME_TAKEN)
        else:
            outcomes.append(None)
            taken.add(user)
    return outcomes


def _email_key(user: NewUser) -> str:
    key: str = user.row[_EMAIL_KEY]
    return key
