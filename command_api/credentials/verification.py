"""Logging in: whether this is the password of the user whom an identifier names.

An attempt costs one round trip that charges it and loads the user, one hash, and on a success one more that ends the
counter. Whatever is wrong costs the same and has the same answer: nobody learns who is there.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_core import to_json

from command_api.credentials.attempt_store import Candidate
from command_api.credentials.attempts import TooManyAttemptsError, identifier_key
from command_api.credentials.checks import PasswordChecks
from command_api.idempotency.replay import CommandAnswer
from command_api.passwords.hashing import HashingBusyError
from command_api.users.context import Cause
from command_api.users.handlers import answer_headers
from command_api.users.values import CurrentPassword, DeviceTokenText, Identifier
from events.user_events import PublicUser

log = structlog.get_logger("credentials")


class VerifyCredentials(BaseModel):
    """Who wants to be let in, and the password."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identifier: Identifier
    password: CurrentPassword
    device_token: DeviceTokenText | None = Field(
        default=None, description="That of the device's last success: its attempts are then counted by themselves."
    )


class InvalidCredentialsError(Exception):
    """Nobody who may log in has this identifier and this password."""


@dataclass(frozen=True, slots=True)
class LogIns:
    """Verifies credentials."""

    checks: PasswordChecks

    async def verify(self, given: VerifyCredentials, cause: Cause) -> CommandAnswer:
        """The user, and a device token.

        Raises:
            InvalidCredentialsError: the password is wrong, or the user is unknown, deactivated, erased or without one.
            TooManyAttemptsError: the counter refuses; no password was looked at.
            HashingBusyError, DatabaseUnavailableError: as their classes say.
        """
        key = identifier_key(given.identifier)
        who = log.bind(actor=cause.actor(), on_behalf_of=cause.on_behalf_of)
        try:
            user, token = await self._attempt(given, key)
        except (InvalidCredentialsError, TooManyAttemptsError) as error:
            event = "credentials.refused" if isinstance(error, InvalidCredentialsError) else "credentials.throttled"
            who.info(event, identifier=self.checks.keys.mark(key))
            raise
        who.info("credentials.verified", user_id=str(user.id))
        body = b'{"user":%b,"device_token":%b}' % (to_json(user), to_json(token))
        return CommandAnswer(200, answer_headers(user.id, user.version), body)

    async def _attempt(self, given: VerifyCredentials, key: str) -> tuple[PublicUser, str]:
        attempts, tokens = self.checks.attempts, self.checks.device_tokens
        device = tokens.read(given.device_token)
        async with self.checks.turn(device.user_id if device else key, device):
            charge, candidate = await attempts.charge_login(given.identifier, device)
            async with self.checks.counting(charge):
                password_hash = candidate.password_hash if candidate else None
                matches = await self.checks.matches(charge, given.password, password_hash)
                if candidate is None or not matches:
                    raise InvalidCredentialsError
                user = await attempts.succeed(charge, candidate, await self._hash_again(given.password, candidate))
        if user is None:
            raise InvalidCredentialsError
        return user, tokens.make(user.id, candidate.password_set_by)

    async def _hash_again(self, password: SecretStr, candidate: Candidate) -> str | None:
        """The password's hash where the stored one is outdated; None where it is not, or this must wait."""
        passwords = self.checks.passwords
        if candidate.password_hash is None or not passwords.is_outdated(candidate.password_hash):
            return None
        try:
            return await passwords.hash(password)
        except HashingBusyError:
            return None  # the next success will do it
