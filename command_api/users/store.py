"""The users in the command database: load one, and commit what a command did to it together with its event.

A commit is all or nothing: the user's row, the outbox row, and the stored answer where the client sent a key. `commit`
returns only after COMMIT. Where the reply to it is lost, the rows tell whether it happened (lost_replies.py).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias
from uuid import UUID

import asyncpg

from chassis.postgres.database import Connection, Database, DatabaseUnavailableError, RolledBackError, describe
from chassis.postgres.errors import begun_again
from chassis.postgres.statements import CompiledStatement
from chassis.tracing.databases import commit_attributes, committing
from command_api.idempotency.keys import IdempotencyKey
from command_api.idempotency.records import (
    FORGET_ANSWERS,
    KEY_IS_UNIQUE,
    LOAD_ANSWER,
    AnswerToStore,
    KeyTakenError,
    stored_answer,
)
from command_api.idempotency.replay import StoredAnswer
from command_api.users import statements
from command_api.users.lost_replies import has_committed
from command_api.users.refusals import EmailTakenError, UsernameTakenError
from command_api.users.rows import COLUMNS, public_user, user_row
from command_api.users.state import ErasedUser, Registered, State, Unregistered
from command_api.users.tables import EMAIL_IS_UNIQUE, USERNAME_IS_UNIQUE, users
from events.envelope import Envelope
from events.user_events import ChangeEvent, UserDeactivated, UserErased, UserRegistered
from outbox.append import append_arguments
from outbox.set_aside import FORGET_HELD_BACK

#: The one table from a constraint's name to what its violation means.
_VIOLATIONS: Final[dict[str | None, type[Exception]]] = {
    EMAIL_IS_UNIQUE: EmailTakenError,
    USERNAME_IS_UNIQUE: UsernameTakenError,
    KEY_IS_UNIQUE: KeyTakenError,
}
#: Work in the transaction of a change, behind it; whatever it raises undoes the change.
InTransaction: TypeAlias = Callable[[Connection], Awaitable[None]]
_USER_PARAMETERS: Final = tuple(f"user_{column}" for column in COLUMNS)


class UnexpectedViolationError(Exception):
    """A constraint that no command should be able to violate: a bug.

    Raised without the driver's error, whose text shows the row, secrets included, and would end up in the logs.
    """


@dataclass(frozen=True, slots=True)
class Loaded:
    """All that the database knows: the user's state, the hash of their password, and the answer stored for the key."""

    state: State
    password_hash: str | None = None
    #: The event that set the password; the user's id where that was not kept.
    password_set_by: UUID | None = None
    answer: StoredAnswer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingChange:
    """One command's effect, ready to be committed; `value` is the event as it will be published."""

    event: ChangeEvent | UserErased
    envelope: Envelope
    value: bytes | None
    password_hash: str | None = None
    also: InTransaction | None = None


class UserStore:
    """One connection a call, one transaction a commit; one that the server rolls back for others is begun again."""

    def __init__(self, database: Database) -> None:
        """Nothing is connected yet."""
        self._database = database
        self._commit_attributes = commit_attributes(database.address.database, users.name)

    @begun_again
    async def load(self, user_id: UUID, key: IdempotencyKey | None) -> Loaded:
        """The user, and the answer stored for the key, as of one moment; one round trip where there is such a user.

        Raises:
            DatabaseUnavailableError: it cannot be asked now.
        """
        async with self._database.connection() as connection:
            if key is None:
                row = await connection.fetchrow(statements.LOAD_USER.sql, user_id)
                if row is not None:
                    return _loaded_user(row)
            arguments = statements.LOAD_ALL.args(user_id=user_id, digest=key.digest if key else None)
            row = await connection.fetchrow(statements.LOAD_ALL.sql, *arguments)
        assert row is not None, "outer joins from one row"
        return _loaded(user_id, row)

    @begun_again
    async def load_answer(self, key: IdempotencyKey) -> StoredAnswer | None:
        """The answer stored for the key.

        Raises:
            DatabaseUnavailableError: it cannot be asked now.
        """
        async with self._database.connection() as connection:
            row = await connection.fetchrow(LOAD_ANSWER.sql, key.digest)
        return None if row is None else stored_answer(row)

    @begun_again
    async def commit(self, change: PendingChange, store: AnswerToStore | None) -> bool:
        """Commit the change; False where the user is no longer at the version before it, and nothing was written.

        Raises:
            EmailTakenError, UsernameTakenError: another user has it.
            KeyTakenError: another process stored an answer for this key first.
            What `change.also` does; nothing was written.
            OutcomeUnknownError: the reply was lost, and whether the commit happened cannot be told.
            DatabaseUnavailableError: it cannot be asked now; nothing was written.
        """
        with committing(users.name, self._commit_attributes):
            return await self._commit(change, store)

    async def _commit(self, change: PendingChange, store: AnswerToStore | None) -> bool:
        backend: int | None = None
        try:
            async with self._database.connection() as connection:
                backend = connection.get_server_pid()
                if isinstance(change.event, UserErased):
                    return await _erase(connection, change.event, change.envelope, store)
                also = _end_tokens(change) if isinstance(change.event, UserDeactivated) else change.also
                if also is None:
                    return await _change(connection, change, store)
                async with connection.transaction():
                    changed = await _change(connection, change, store)
                    if changed:
                        await also(connection)
                return changed
        except asyncpg.IntegrityConstraintViolationError as error:
            raise _meaning(error) from None
        except DatabaseUnavailableError as error:
            if backend is None or isinstance(error, RolledBackError):
                raise
            # The connection was discarded first, so that another may be opened in its place meanwhile.
            if await has_committed(self._database.address, change.envelope, backend):
                return True
            raise DatabaseUnavailableError(f"not committed: {describe(error)}") from error

    @begun_again
    async def commit_answer(self, state: State, store: AnswerToStore) -> bool:
        """Store the answer of a command that changed nothing; False where the user is not in this state any more.

        Raises:
            KeyTakenError, DatabaseUnavailableError: as `commit`.
        """
        match state:
            case Registered(user=user):
                statement, version, stored = statements.STORE_FOR_USER, user.version, store.shared_arguments()
            case ErasedUser(version=version):
                statement, stored = statements.STORE_FOR_ERASED, store.arguments()
            case Unregistered():
                raise AssertionError("a command about nobody is refused")
        arguments = statement.args(**stored, expected_version=version)
        try:
            async with self._database.connection() as connection:
                return await connection.fetchval(statement.sql, *arguments) is not None
        except asyncpg.IntegrityConstraintViolationError as error:
            raise _meaning(error) from None


async def _change(connection: Connection, change: PendingChange, store: AnswerToStore | None) -> bool:
    statement, arguments = _change_statement(change, store)
    return await connection.fetchval(statement.sql, *statement.args(**arguments)) is not None


def _end_tokens(change: PendingChange) -> InTransaction:
    """A statement of its own ends the tokens: it sees one that was issued while the change waited for its lock."""

    async def end(connection: Connection) -> None:
        await connection.execute(statements.END_TOKENS.sql, change.envelope.subject_id)

    return end


def _change_statement(change: PendingChange, store: AnswerToStore | None) -> tuple[CompiledStatement, dict[str, Any]]:
    assert not isinstance(change.event, UserErased)
    user = change.event.user
    row = user_row(user, change.envelope.event_id, change.password_hash)
    arguments = {
        **dict(zip(_USER_PARAMETERS, row, strict=True)),
        **append_arguments(change.envelope, change.value),
    }
    if store:
        arguments |= store.arguments()
    if isinstance(change.event, UserRegistered):
        return (statements.REGISTER_AND_STORE if store else statements.REGISTER), arguments
    arguments["expected_version"] = user.version - 1
    return (statements.CHANGE_AND_STORE if store else statements.CHANGE), arguments


async def _erase(connection: Connection, event: UserErased, envelope: Envelope, store: AnswerToStore | None) -> bool:
    """Separate statements, because each must see what committed while the one before waited for its lock.

    A statement sees the rows as of its own beginning: a single one would overlook the answer that a concurrent command
    stored while it waited for the lock on the user.
    """
    append = statements.ERASE_AND_STORE if store else statements.ERASE
    arguments = {
        "erased_id": event.user_id,
        "erased_version": event.version,
        "erased_erased_at": envelope.time,
        "erased_event_id": envelope.event_id,
        **append_arguments(envelope, None),
        **(store.arguments() if store else {}),
    }
    async with connection.transaction():
        delete = statements.DELETE_USER
        guard = delete.args(user_id=event.user_id, expected_version=event.version - 1)
        if await connection.fetchval(delete.sql, *guard) is None:
            return False
        await connection.execute(FORGET_ANSWERS.sql, *FORGET_ANSWERS.args(subject_id=event.user_id))
        await connection.execute(FORGET_HELD_BACK, event.user_id)
        await connection.execute(append.sql, *append.args(**arguments))
    return True


def _loaded_user(row: asyncpg.Record) -> Loaded:
    return Loaded(Registered(public_user(row)), row["password_hash"], row["password_set_by"])


def _loaded(user_id: UUID, row: asyncpg.Record) -> Loaded:
    answer = stored_answer(row)
    if row["id"] is not None:
        return replace(_loaded_user(row), answer=answer)
    if row["erased_version"] is not None:
        return Loaded(ErasedUser(user_id, row["erased_version"]), answer=answer)
    return Loaded(Unregistered(user_id), answer=answer)


def _meaning(error: asyncpg.IntegrityConstraintViolationError) -> Exception:
    """The error that the violation of a constraint means for the command."""
    violated = _VIOLATIONS.get(error.constraint_name)
    return violated() if violated else UnexpectedViolationError(error.constraint_name or type(error).__name__)
