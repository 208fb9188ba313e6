"""The users in the command database: load one, and commit what a command did to it together with its event.

A commit is all or nothing: the user's row, the outbox row, and the stored answer where the client sent a key. `commit`
returns only after COMMIT. Where the reply to it is lost, the rows tell what became of it (settlement.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg

from chassis.postgres.database import Database, DatabaseUnavailableError, describe
from chassis.postgres.statements import CompiledStatement
from chassis.text_keys import text_key
from command_api.idempotency.records import KEY_IS_UNIQUE
from command_api.idempotency.replay import Answer, IdempotencyKey, StoredAnswer
from command_api.users import statements
from command_api.users.refusals import EmailTakenError, RefusedError, UsernameTakenError
from command_api.users.settlement import settle
from command_api.users.state import Erased, Registered, State, Unregistered
from command_api.users.tables import EMAIL_IS_UNIQUE, USERNAME_IS_UNIQUE
from command_api.users.values import Attributes
from events.catalogue import ChangeEvent
from events.envelope import Envelope
from events.user_events import PublicUser, UserErased, UserRegistered
from outbox.append import append_arguments

#: The one table from a constraint's name to what its violation means.
REFUSALS: Final[dict[str | None, type[RefusedError]]] = {
    EMAIL_IS_UNIQUE: EmailTakenError,
    USERNAME_IS_UNIQUE: UsernameTakenError,
}

_LOAD_USER: Final = """
SELECT id, version, status, email, email_verified, username, display_name, attributes, password_hash, created_at,
       updated_at
FROM users WHERE id = $1
"""
_LOAD_ALL: Final = """
SELECT u.id, u.version, u.status, u.email, u.email_verified, u.username, u.display_name, u.attributes, u.password_hash,
       u.created_at, u.updated_at, e.version AS erased_version,
       r.status AS answer_status, r.fingerprint, r.headers, r.body
FROM (SELECT $1::uuid AS id) AS asked
LEFT JOIN users AS u ON u.id = asked.id
LEFT JOIN erased_users AS e ON e.id = asked.id
LEFT JOIN idempotency_records AS r ON r.digest = $2
"""
_LOAD_ANSWER: Final = (
    "SELECT status AS answer_status, fingerprint, headers, body FROM idempotency_records WHERE digest = $1"
)


class ContendedError(Exception):
    """Another transaction holds what this one needs, for longer than it may wait or in the opposite order."""


class UnexpectedViolationError(Exception):
    """A constraint that no command should be able to violate: a bug.

    Raised without the driver's error, whose text shows the row, secrets included, and would end up in the logs.
    """


class KeyTakenError(Exception):
    """Another process has stored an answer for the same key a moment ago."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the database knows: the user's state, their secret, and the answer that was stored for the key."""

    state: State
    password_hash: str | None = None
    answer: StoredAnswer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one command did, ready to be committed; `value` is the event as it will be published."""

    event: ChangeEvent | UserErased
    envelope: Envelope
    value: bytes | None
    password_hash: str | None = None


@dataclass(frozen=True, slots=True)
class AnswerToStore:
    """An answer and the key it is stored under."""

    key: IdempotencyKey
    subject_id: UUID
    answer: Answer

    def arguments(self) -> dict[str, Any]:
        """The named arguments of the statements that store."""
        return {
            "answer_digest": self.key.digest,
            "answer_fingerprint": self.key.fingerprint,
            "answer_subject_id": self.subject_id,
            "answer_status": self.answer.status,
            "answer_headers": json.dumps(self.answer.headers),
            "answer_body": self.answer.body,
        }


class UserStore:
    """One connection a call, one transaction a commit."""

    def __init__(self, database: Database) -> None:
        """Nothing is connected yet."""
        self._database = database

    async def load(self, user_id: UUID, key: IdempotencyKey | None) -> Loaded:
        """The user, and the answer stored for the key, as of one moment; one round trip where there is such a user.

        Raises:
            DatabaseUnavailableError: it cannot be asked now.
        """
        async with self._database.connection() as connection:
            if key is None:
                row = await connection.fetchrow(_LOAD_USER, user_id)
                if row is not None:
                    return Loaded(Registered(_user(row)), row["password_hash"])
            row = await connection.fetchrow(_LOAD_ALL, user_id, key.digest if key else None)
        assert row is not None, "outer joins from one row"
        return _loaded(user_id, row)

    async def load_answer(self, key: IdempotencyKey) -> StoredAnswer | None:
        """The answer stored for the key.

        Raises:
            DatabaseUnavailableError: it cannot be asked now.
        """
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_LOAD_ANSWER, key.digest)
        return None if row is None else _stored(row)

    async def commit(self, change: Change, store: AnswerToStore | None) -> bool:
        """Commit the change; False where the user is no longer at the version before it, and nothing was written.

        Raises:
            EmailTakenError, UsernameTakenError: another user has it.
            KeyTakenError: another process stored an answer for this key first.
            ContendedError: a lock could not be had; nothing was written.
            OutcomeUnknownError: the reply was lost, and what became of the commit cannot be told.
            DatabaseUnavailableError: it cannot be asked now; nothing was written.
        """
        backend: int | None = None
        try:
            async with self._database.connection() as connection:
                backend = connection.get_server_pid()
                if isinstance(change.event, UserErased):
                    return await _erase(connection, change.event, change.envelope, store)
                statement, arguments = _change_statement(change, store)
                return await connection.fetchval(statement.sql, *statement.args(**arguments)) is not None
        except asyncpg.IntegrityConstraintViolationError as error:
            raise _refusal(error) from None
        except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
            raise ContendedError(describe(error)) from error
        except DatabaseUnavailableError as error:
            if backend is None:
                raise
            # Settled only now, with the connection discarded: it is in doubt, and its place is somebody else's.
            if await settle(self._database.address, change.envelope, backend):
                return True
            raise DatabaseUnavailableError(f"not committed: {describe(error)}") from error

    async def commit_answer(self, state: State, store: AnswerToStore) -> bool:
        """Store the answer of a command that changed nothing; False where the user is not in this state any more.

        Raises:
            KeyTakenError, ContendedError, DatabaseUnavailableError: as `commit`.
        """
        match state:
            case Registered(user=user):
                statement, version = statements.STORE_FOR_USER, user.version
            case Erased(version=version):
                statement = statements.STORE_FOR_ERASED
            case Unregistered():
                raise AssertionError("a command about nobody is refused")
        arguments = statement.args(**store.arguments(), expected_version=version)
        async with self._database.connection() as connection:
            try:
                return await connection.fetchval(statement.sql, *arguments) is not None
            except asyncpg.IntegrityConstraintViolationError as error:
                raise _refusal(error) from None
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
                raise ContendedError(describe(error)) from error


def _change_statement(change: Change, store: AnswerToStore | None) -> tuple[CompiledStatement, dict[str, Any]]:
    assert not isinstance(change.event, UserErased)
    user = change.event.user
    arguments = {
        **_user_arguments(user, change.envelope.event_id, change.password_hash),
        **append_arguments(change.envelope, change.value),
    }
    if store:
        arguments |= store.arguments()
    if isinstance(change.event, UserRegistered):
        return (statements.REGISTER_AND_STORE if store else statements.REGISTER), arguments
    arguments["expected_version"] = user.version - 1
    return (statements.CHANGE_AND_STORE if store else statements.CHANGE), arguments


async def _erase(connection: Any, event: UserErased, envelope: Envelope, store: AnswerToStore | None) -> bool:
    """Separate statements, because each must see what committed while the one before waited for its lock.

    A statement sees the rows as of its own beginning: a single one would overlook the answer that a concurrent command
    stored while the lock on the user was waited for.
    """
    append = statements.ERASE_AND_STORE if store else statements.ERASE
    arguments = {
        "erased_id": event.user_id,
        "erased_version": event.version,
        "erased_erased_at": envelope.time,
        **append_arguments(envelope, None),
        **(store.arguments() if store else {}),
    }
    async with connection.transaction():
        delete = statements.DELETE_USER
        guard = delete.args(user_id=event.user_id, expected_version=event.version - 1)
        if await connection.fetchval(delete.sql, *guard) is None:
            return False
        await connection.execute(statements.FORGET_ANSWERS.sql, *statements.FORGET_ANSWERS.args(user_id=event.user_id))
        await connection.execute(append.sql, *append.args(**arguments))
    return True


def _user_arguments(user: PublicUser, event_id: UUID, password_hash: str | None) -> dict[str, Any]:
    return {
        "user_id": user.id,
        "user_version": user.version,
        "user_event_id": event_id,
        "user_status": user.status,
        "user_email": user.email,
        "user_email_key": text_key(user.email),
        "user_email_verified": user.email_verified,
        "user_username": user.username,
        "user_username_key": text_key(user.username),
        "user_display_name": user.display_name,
        "user_attributes": attributes_text(user.attributes),
        "user_password_hash": password_hash,
        "user_created_at": user.created_at,
        "user_updated_at": user.updated_at,
    }


def attributes_text(attributes: Attributes) -> str:
    """The JSON that is stored: numbers stay as they are written, most users have none."""
    if not attributes:
        return "{}"
    return json.dumps(attributes, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _loaded(user_id: UUID, row: asyncpg.Record) -> Loaded:
    answer = _stored(row)
    if row["id"] is not None:
        return Loaded(Registered(_user(row)), row["password_hash"], answer)
    if row["erased_version"] is not None:
        return Loaded(Erased(user_id, row["erased_version"]), answer=answer)
    return Loaded(Unregistered(user_id), answer=answer)


def _user(row: asyncpg.Record) -> PublicUser:
    """The row as it was validated when it was written: validating again would only cost time."""
    return PublicUser.model_construct(
        id=row["id"],
        email=row["email"],
        username=row["username"],
        email_verified=row["email_verified"],
        display_name=row["display_name"],
        attributes=json.loads(row["attributes"]) if row["attributes"] != "{}" else {},
        is_active=row["status"] == "active",
        status=row["status"],
        version=row["version"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _stored(row: asyncpg.Record) -> StoredAnswer | None:
    if row["answer_status"] is None:
        return None
    return StoredAnswer(Answer(row["answer_status"], json.loads(row["headers"]), row["body"]), row["fingerprint"])


def _refusal(error: asyncpg.IntegrityConstraintViolationError) -> Exception:
    """What a violated constraint means."""
    if error.constraint_name == KEY_IS_UNIQUE:
        return KeyTakenError()
    refusal = REFUSALS.get(error.constraint_name)
    return refusal() if refusal else UnexpectedViolationError(error.constraint_name or type(error).__name__)
