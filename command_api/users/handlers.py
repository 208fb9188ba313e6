"""The handlers: they carry a command from the request to its commit, and return the answer.

Load, decide, commit. Where another command changed the user in between, this begins again, a bounded number of times.
Nothing is answered before COMMIT. Passwords are hashed and checked while no connection and no lock is held.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

import structlog
from pydantic import SecretStr
from pydantic_core import to_json

from chassis.consistency import ConsistencyToken
from chassis.postgres.database import Connection
from chassis.tracing.spans import step
from command_api.credentials.checks import PasswordChecks
from command_api.credentials.device_tokens import DEVICE_TOKEN_HEADER, DeviceToken
from command_api.idempotency.allowance import KeyAllowance
from command_api.idempotency.keys import IdempotencyKey
from command_api.idempotency.records import AnswerToStore, KeyTakenError
from command_api.idempotency.replay import CommandAnswer, Turns
from command_api.passwords.hashing import Passwords
from command_api.passwords.policy import PasswordPolicy
from command_api.users.commands import ChangeCommand, ChangePassword, EraseUser, RegistersUser, RegisterUser
from command_api.users.context import Cause, CommandContext, Precondition
from command_api.users.decisions import decide
from command_api.users.refusals import PasswordRefusedError, RefusedError, UserNotFoundError
from command_api.users.state import ErasedUser, Registered, State, Unregistered, evolve, subject, version_of
from command_api.users.store import InTransaction, Loaded, PendingChange, UserStore
from events.envelope import Envelope
from events.user_events import (
    USER_EVENTS,
    ChangeEvent,
    Event,
    PublicUser,
    UserEmailChanged,
    UserErased,
    UserRegistered,
    UserUsernameChanged,
    encode_with_user,
)
from outbox.notifier import Notifier

log = structlog.get_logger("command")

#: One command commits in each round of those that meet on one user, so twenty of them need twenty rounds at most.
#: Hundreds of them get through by the pauses, if they do.
COMMIT_ATTEMPTS: Final = 20
#: The longest pause after the first attempt. Pauses are random and grow, so that commands that met do not meet again.
COMMIT_PAUSE_SECONDS: Final = 0.002


class ConflictError(Exception):
    """Other commands changed the user each time before this one could; a retry will probably succeed."""


class StaleVersionError(Exception):
    """The client's If-Match names no current version; `version` is the current one."""

    def __init__(self, version: int) -> None:
        """Keep the version, for the answer's ETag."""
        super().__init__(version)
        self.version = version


class WrongPasswordError(Exception):
    """The current password that came with the command is not the user's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserHandlers:
    """Carries every command but imports; tests bring their own clock and ids."""

    store: UserStore
    passwords: Passwords
    policy: PasswordPolicy
    checks: PasswordChecks
    notifier: Notifier
    clock: Callable[[], datetime]
    new_id: Callable[[], UUID]
    query_url: str
    turns: Turns
    allowance: KeyAllowance

    async def register(self, command: RegisterUser, context: CommandContext) -> CommandAnswer:
        """Register a new user.

        Raises:
            RefusedError: the address or the name is taken, or the password may not be chosen.
            KeysUsedUpError: the answer to the key is not stored any more.
            HashingBusyError, KeyInUseError, KeyReusedError, KeySubjectErasedError, ConflictError, OutcomeUnknownError,
            DatabaseUnavailableError: as their classes say; nothing was registered, except where the outcome is unknown.
        """
        if context.key is None:
            return await self._register(command, context)
        async with self.turns.take(context.key):
            return await self._replay(context.key) or await self._register(command, context)

    async def _register(self, command: RegisterUser, context: CommandContext) -> CommandAnswer:
        if refused := password_refusal(self.policy, command.password, command):
            raise refused
        if context.key:
            self.allowance.count(context.access, changes=True)
        password_hash = await self.passwords.hash(command.password)
        event = _decide(Unregistered(self.new_id()), command, self.clock())
        assert isinstance(event, UserRegistered), "a registration always leads to its event"
        answer = _with_user(201, event.user, Location=f"{self.query_url}/users/{event.user.id}")
        change = self._change(event, answer.body, context.cause, password_hash)
        try:
            await self.store.commit(change, _store(context, Registered(event.user), answer))
        except (KeyTakenError, RefusedError):
            # A duplicate in another process may have committed first; then its answer is this one's, too.
            if replayed := await self._replay(context.key):
                return replayed
            raise
        self._committed(change.envelope)
        return answer

    async def change(self, user_id: UUID, command: ChangeCommand | EraseUser, context: CommandContext) -> CommandAnswer:
        """Change or erase a user.

        Raises:
            RefusedError: the command cannot be carried out in the user's state.
            StaleVersionError: the user is not at the version that was asked for.
            WrongPasswordError: the current password is another one.
            TooManyAttemptsError: too many were; this one was not looked at.
            KeysUsedUpError: the answer to the key is not stored any more.
            HashingBusyError, KeyInUseError, KeyReusedError, KeySubjectErasedError, ConflictError, OutcomeUnknownError,
            DatabaseUnavailableError: as their classes say; nothing was changed, except where the outcome is unknown.
        """
        if context.key is None:
            return await self._change_user(user_id, command, context)
        async with self.turns.take(context.key):
            return await self._change_user(user_id, command, context)

    async def _change_user(
        self, user_id: UUID, command: ChangeCommand | EraseUser, context: CommandContext
    ) -> CommandAnswer:
        new_hash = checked = None
        is_counted = False
        # Somebody else's takes the way of an absent one from here on; nor is replayed what was once answered about it.
        visible = context.access.visible(user_id)
        key = context.key if visible == user_id else None
        for attempt in range(COMMIT_ATTEMPTS):
            loaded = await self.store.load(visible, key)
            if loaded.answer and key:
                return loaded.answer.replay(key)
            event = self._decide(loaded.state, command, context.precondition)
            if isinstance(command, ChangePassword):
                assert isinstance(loaded.state, Registered), "an absent user was refused"
                if refused := password_refusal(self.policy, command.password, loaded.state.user):
                    raise refused
                checked = await self._check_current(command, loaded, checked, context)
                new_hash = new_hash or await self.passwords.hash(command.password)
            # An erasure is never held up, and there is one a user.
            if key and not is_counted and not isinstance(event, UserErased):
                self.allowance.count(context.access, changes=event is not None)
                is_counted = True
            if answer := await self._try_commit(loaded, event, command, context, new_hash):
                return answer
            await pause(attempt)
        raise ConflictError

    async def commit(
        self, event: ChangeEvent, cause: Cause, password_hash: str | None, also: InTransaction
    ) -> UUID | None:
        """Commit a change that was decided elsewhere; gives the event's id, None where others changed the user first.

        Raises:
            What `also` does: nothing was changed then.
            OutcomeUnknownError, DatabaseUnavailableError: as their classes say.
        """
        change = replace(self._change(event, None, cause, password_hash), also=also)
        if not await self.store.commit(change, None):
            return None
        self._committed(change.envelope)
        return change.envelope.event_id

    def _decide(
        self, state: State, command: ChangeCommand | EraseUser, precondition: Precondition | None
    ) -> Event | None:
        if isinstance(state, Unregistered) or (isinstance(state, ErasedUser) and not isinstance(command, EraseUser)):
            raise UserNotFoundError
        if precondition and isinstance(state, Registered) and not precondition.holds(version_of(state)):
            raise StaleVersionError(version_of(state))
        return _decide(state, command, self.clock())

    async def _check_current(
        self, command: ChangePassword, loaded: Loaded, checked: UUID | None, context: CommandContext
    ) -> UUID | None:
        """Check the current password, unless this was done for the same password; gives the event that set it.

        The commit is guarded by the version that was loaded, so the hash that is checked here is still the user's then.
        """
        assert isinstance(loaded.state, Registered), "others were refused"
        current = command.current_password
        if current is not None and loaded.password_set_by != checked:
            device, own = self._device(command, loaded), context.access.own_only
            user, cause = loaded.state.user, context.cause
            who = log.bind(user_id=str(user.id), actor=cause.actor(user.id), on_behalf_of=cause.on_behalf_of)
            if not await self.checks.is_current(user, loaded.password_hash, current, device, own=own, who=who):
                raise WrongPasswordError
        return loaded.password_set_by

    def _device(self, command: ChangeCommand | EraseUser, loaded: Loaded) -> DeviceToken | None:
        """The content of the device token that came with a new password, where it is valid."""
        if not isinstance(command, ChangePassword) or loaded.password_set_by is None:
            return None
        return self.checks.known_device(command.device_token, subject(loaded.state), loaded.password_set_by)

    async def _try_commit(
        self,
        loaded: Loaded,
        event: Event | None,
        command: ChangeCommand | EraseUser,
        context: CommandContext,
        password_hash: str | None,
    ) -> CommandAnswer | None:
        """Commit, and give the answer; None where another attempt is needed."""
        after = loaded.state if event is None else evolve(loaded.state, event)
        answer = _answer(after, command)
        store = _store(context, after, answer)
        change = None if event is None else self._change(event, answer.body, context.cause, password_hash)
        if change is not None and isinstance(event, UserEmailChanged | UserUsernameChanged):
            change = replace(change, also=self._carrying(loaded, event.user))
        try:
            if change is not None:
                committed = await self.store.commit(change, store)
            else:
                committed = store is None or await self.store.commit_answer(after, store)
        except KeyTakenError:
            return None
        if not committed:
            return None
        if change is not None:
            self._committed(change.envelope)
            if self._device(command, loaded):
                # Made here, so that it is not among the stored answers.
                token = self.checks.device_tokens.make(change.envelope.subject_id, change.envelope.event_id)
                return replace(answer, headers={**answer.headers, DEVICE_TOKEN_HEADER: token})
        return answer

    def _carrying(self, loaded: Loaded, after: PublicUser) -> InTransaction:
        assert isinstance(loaded.state, Registered), "an absent user was refused"
        before = loaded.state.user

        async def carry(connection: Connection) -> None:
            await self.checks.attempts.carry(connection, before, after)

        return carry

    async def _replay(self, key: IdempotencyKey | None) -> CommandAnswer | None:
        stored = await self.store.load_answer(key) if key else None
        return stored.replay(key) if stored and key else None

    def _change(self, event: Event, user: bytes | None, cause: Cause, password_hash: str | None) -> PendingChange:
        """An event as it is committed; `user` is the JSON of the user after it, where the answer has it already."""
        if user is None or isinstance(event, UserErased):
            value = USER_EVENTS.encode(event)
        else:
            value = encode_with_user(event, user)
        subject_id = event.user_id if isinstance(event, UserErased) else event.user.id
        envelope = Envelope(
            event_id=self.new_id(),
            source=USER_EVENTS.source,
            type=USER_EVENTS.event_type(event),
            subject_id=subject_id,
            version=event.version if isinstance(event, UserErased) else event.user.version,
            time=self.clock() if isinstance(event, UserErased) else event.user.updated_at,
            correlation_id=cause.correlation_id,
            causation_id=cause.command_id,
            actor=cause.actor(subject_id),
            on_behalf_of=cause.on_behalf_of,
            traceparent=cause.traceparent,
        )
        return PendingChange(event=event, envelope=envelope, value=value, password_hash=password_hash)

    def _committed(self, envelope: Envelope) -> None:
        self.notifier.notify()
        log.info(
            "command.committed",
            event_type=envelope.type,
            user_id=str(envelope.subject_id),
            version=envelope.version,
            command_id=envelope.causation_id,
            actor=envelope.actor,
            on_behalf_of=envelope.on_behalf_of,
        )


def _decide(state: State, command: RegisterUser | ChangeCommand | EraseUser, now: datetime) -> Event | None:
    with step("decide") as span:
        if span is not None:
            span.attributes["muster.command"] = type(command).__name__
        return decide(state, command, now)


async def pause(attempt: int) -> None:
    """Wait between two attempts to commit; the first is number 0."""
    await asyncio.sleep(random.uniform(0, COMMIT_PAUSE_SECONDS * (attempt + 1)))  # noqa: S311 - spreads retries


def password_refusal(
    policy: PasswordPolicy, password: SecretStr, user: RegistersUser | PublicUser
) -> PasswordRefusedError | None:
    """Why this user may not have this new password, None where it may; asked before it is hashed."""
    fault = policy.fault(
        password.get_secret_value(), email=user.email, username=user.username, display_name=user.display_name
    )
    return PasswordRefusedError(fault) if fault else None


def _answer(state: State, command: ChangeCommand | EraseUser) -> CommandAnswer:
    match state, command:
        case Registered(user=user), ChangePassword():
            return _done(user.id, user.version)
        case Registered(user=user), _:
            return shows_user(user)
        case ErasedUser(id=user_id, version=version), _:
            return _done(user_id, version)
        case _:
            raise AssertionError("a command about nobody is refused")


def _store(context: CommandContext, state: State, answer: CommandAnswer) -> AnswerToStore | None:
    return None if context.key is None else AnswerToStore(context.key, subject(state), answer)


def shows_user(user: PublicUser) -> CommandAnswer:
    """200, with the user after the command."""
    return _with_user(200, user)


def _done(user_id: UUID, version: int) -> CommandAnswer:
    """204: there is nothing to show."""
    return CommandAnswer(204, answer_headers(user_id, version))


def etag(version: int) -> str:
    """The entity tag of a version."""
    return f'"{version}"'


def _with_user(status: int, user: PublicUser, **more: str) -> CommandAnswer:
    return CommandAnswer(status, {**answer_headers(user.id, user.version), **more}, to_json(user))


def answer_headers(user_id: UUID, version: int) -> dict[str, str]:
    """The headers of an answer that is about a user at a version."""
    return {"ETag": etag(version), "Consistency-Token": ConsistencyToken(user_id, version).encode()}
