"""One-time tokens: issue one for a user, and redeem it for another password or a verified address.

The event of a redemption is committed together with the token's end. Nothing of a token is in an event or a log.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

import structlog
from pydantic import SecretStr, TypeAdapter, ValidationError

from chassis.postgres.database import Connection
from command_api.credentials.device_tokens import DEVICE_TOKEN_HEADER
from command_api.credentials.token_store import TokenEndedError, TokenStore, end
from command_api.credentials.tokens import (
    RESET,
    IssuedToken,
    IssueToken,
    KnownToken,
    RedeemToken,
    digest_of,
    new_token,
)
from command_api.idempotency.replay import CommandAnswer
from command_api.users.commands import ChangePassword, VerifyEmail
from command_api.users.context import CommandContext
from command_api.users.decisions import change
from command_api.users.handlers import (
    COMMIT_ATTEMPTS,
    ConflictError,
    UserHandlers,
    password_refusal,
    pause,
    shows_user,
)
from command_api.users.refusals import PasswordRefusedError, UserIsDeactivatedError, UserNotFoundError
from command_api.users.values import Password

log = structlog.get_logger("command.one_time_tokens")

_PASSWORD: Final[TypeAdapter[SecretStr]] = TypeAdapter(Password)


class InvalidOneTimeTokenError(Exception):
    """The token cannot be redeemed, for whatever reason: the client is not told which."""


@dataclass(frozen=True, slots=True)
class OneTimeTokens:
    """Issues and redeems tokens, with the clock, the hashes, the counters and the commit of `users`."""

    store: TokenStore
    users: UserHandlers

    async def issue(self, user_id: UUID, command: IssueToken, context: CommandContext) -> IssuedToken:
        """A new token for the user; an older one of its purpose ends.

        Raises:
            UserNotFoundError, UserIsDeactivatedError: nobody, or a deactivated user, is given one.
            DatabaseUnavailableError: as its class says; the older token may have ended.
        """
        token = new_token()
        expires_at = self.users.clock() + command.ttl
        status = await self.store.issue(user_id, command.purpose, digest_of(token), expires_at)
        if status is None:
            raise UserNotFoundError
        if status != "active":
            raise UserIsDeactivatedError
        log.info(
            "command.token_issued",
            purpose=command.purpose,
            user_id=str(user_id),
            command_id=context.cause.command_id,
            actor=context.cause.actor(user_id),
            on_behalf_of=context.cause.on_behalf_of,
        )
        return IssuedToken(token=token, purpose=command.purpose, expires_at=expires_at)

    async def redeem(self, command: RedeemToken, context: CommandContext) -> CommandAnswer:
        """Do what the token allows, and end it; the answer shows the user after it.

        A reset ends the counters of the account's failed attempts, and makes the device that sends it a known one.

        The token is looked at first; what is wrong with the password is said only for one that holds.

        Raises:
            InvalidTokenError: the token is unknown, redeemed, replaced, expired or ended, or what it was bound to has
                changed.
            PasswordRefusedError: a reset without a good password, a verification with one. The token still holds.
            HashingBusyError, ConflictError, DatabaseUnavailableError: as their classes say; the token still holds.
            OutcomeUnknownError: as its class says.
        """
        digest = digest_of(command.token.get_secret_value())
        password_hash = None
        for attempt in range(COMMIT_ATTEMPTS):
            known = await self.store.find(digest)
            if known is None or not known.holds(self.users.clock()):
                raise _refused(context)
            password = _password(known, command)
            if password is not None:
                # Each time: others may have given the user a name that is the password.
                if refused := password_refusal(self.users.policy, password, known.user):
                    raise refused
                password_hash = password_hash or await self.users.passwords.hash(password)
            try:
                if answer := await self._commit(known, digest, password, password_hash, context):
                    return answer
            except TokenEndedError:
                raise _refused(context) from None
            await pause(attempt)
        raise ConflictError

    async def _commit(
        self,
        known: KnownToken,
        digest: bytes,
        password: SecretStr | None,
        password_hash: str | None,
        context: CommandContext,
    ) -> CommandAnswer | None:
        """Commit, and give the answer; None where another attempt is needed."""
        verify = VerifyEmail.model_construct(email=known.user.email)
        asked = verify if password is None else ChangePassword(password=password)
        event = change(known.user, asked, self.users.clock())
        if event is None:  # the address is verified already
            await self.store.end(digest)
            return shows_user(known.user)

        async def also(connection: Connection) -> None:
            await end(connection, digest)
            if password is not None:
                await self.users.checks.attempts.clear(connection, event.user)

        event_id = await self.users.commit(event, context.cause, password_hash, also)
        if event_id is None:
            return None
        answer = shows_user(event.user)
        if password is None:
            return answer
        self.users.checks.attempts.cleared(event.user)
        device_token = self.users.checks.device_tokens.make(event.user.id, event_id)
        return replace(answer, headers={**answer.headers, DEVICE_TOKEN_HEADER: device_token})


def _refused(context: CommandContext) -> InvalidOneTimeTokenError:
    """The same for whatever is wrong with a token, after a line in the log."""
    log.info("command.token_refused", actor=context.cause.actor(), on_behalf_of=context.cause.on_behalf_of)
    return InvalidOneTimeTokenError()


def _password(known: KnownToken, command: RedeemToken) -> SecretStr | None:
    """The new password of a reset, None for a verification.

    Raises:
        PasswordRefusedError: there is none, a bad one, or one that must not be there.
    """
    given = command.password and command.password.get_secret_value()
    if known.purpose != RESET:
        if given is not None:
            raise PasswordRefusedError("a verification takes no password; leave it out")
        return None
    if given is None:
        raise PasswordRefusedError("is required by a password reset; add it")
    try:
        return _PASSWORD.validate_python(given)
    except ValidationError as error:
        raise PasswordRefusedError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
