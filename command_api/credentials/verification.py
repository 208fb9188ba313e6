"""Logging in: whether this is the password of the user whom an identifier names.

An attempt costs one round trip that charges it and loads the user, one hash, and on a success one more that ends the
counter. Whatever is wrong costs the same and has the same answer: nobody learns who is there.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_core import to_json

from command_api.credentials.attempts.rule import identifier_key, of_identifier
from command_api.credentials.attempts.store import Candidate, Charge
from command_api.credentials.checks import PasswordChecks
from command_api.idempotency.replay import CommandAnswer
from command_api.passwords.hashing import Room
from command_api.passwords.lanes import HashingBusyError
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
        who = log.bind(actor=cause.actor(), on_behalf_of=cause.on_behalf_of)
        user, token = await self._attempt(given, who)
        who.info("credentials.verified", user_id=str(user.id))
        body = b'{"user":%b,"device_token":%b}' % (to_json(user), to_json(token))
        return CommandAnswer(200, answer_headers(user.id, user.version), body)

    async def _attempt(
        self, given: VerifyCredentials, who: structlog.typing.FilteringBoundLogger
    ) -> tuple[PublicUser, str]:
        checks, key = self.checks, identifier_key(given.identifier)
        device, user = checks.device_tokens.read(given.device_token), None

        async def charging(room: Room) -> tuple[Charge, Candidate | None]:
            return await checks.attempts.charge_login(given.identifier, device, room)

        async with checks.attempt(of_identifier(checks.keys, key), device, charging) as (charge, candidate):
            password_hash = candidate.password_hash if candidate else None
            if await checks.matches(charge, given.password, password_hash) and candidate:
                new_hash = await self._hash_again(given.password, candidate)
                user = await checks.attempts.succeed(charge, candidate, new_hash)
        checks.note(charge, who.bind(identifier=checks.keys.mark(key)), right=user is not None)
        if user is None or candidate is None:
            raise InvalidCredentialsError
        return user, checks.device_tokens.make(user.id, candidate.password_set_by)

    async def _hash_again(self, password: SecretStr, candidate: Candidate) -> str | None:
        """The password's hash where the stored one is outdated; None where it is not, or this must wait."""
        passwords = self.checks.passwords
        if candidate.password_hash is None or not passwords.is_outdated(candidate.password_hash):
            return None
        try:
            return await passwords.hash(password)
        except HashingBusyError:
            return None  # the next success will do it
