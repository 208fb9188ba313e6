"""Every check of a password: charged to a counter first, then hashed; a success ends the counter.

No connection is held while a hash is computed. An attempt that finds no place among the hashes, or whose success the
database does not take, is uncounted again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

from pydantic import SecretStr

from chassis.postgres.database import DatabaseUnavailableError
from chassis.text_keys import email_key
from command_api.credentials.attempt_store import AttemptStore, Charge
from command_api.credentials.attempts import of_device, of_identifier, of_self
from command_api.credentials.device_tokens import DeviceToken, DeviceTokens
from command_api.credentials.keys import CredentialKeys
from command_api.credentials.lines import Lines
from command_api.passwords.hashing import HashingBusyError, Passwords
from events.user_events import PublicUser


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordChecks:
    """Checks passwords as often as the counters let it."""

    keys: CredentialKeys
    attempts: AttemptStore
    passwords: Passwords
    device_tokens: DeviceTokens
    lines: Lines = field(default_factory=Lines)

    async def is_current(
        self, user: PublicUser, password_hash: str | None, current: SecretStr, device: DeviceToken | None, *, own: bool
    ) -> bool:
        """Whether this is the user's password; `device` is valid for the user, `own` whether the user itself asks.

        Raises:
            TooManyAttemptsError: the counter refuses.
            HashingBusyError, DatabaseUnavailableError: as their classes say; the attempt does not count.
        """
        if device is not None:
            counter = of_device(self.keys, device.nonce)
        elif own:
            counter = of_self(self.keys, user.id)
        else:
            counter = of_identifier(self.keys, email_key(user.email))
        async with self.turn(user.id if device else counter, device):
            charge = await self.attempts.charge(counter)
            async with self.counting(charge):
                right = await self.matches(charge, current, password_hash)
                if right:
                    await self.attempts.end(counter)
                return right

    @asynccontextmanager
    async def turn(self, whose: Hashable, device: DeviceToken | None) -> AsyncIterator[None]:
        """Hold a place for an attempt; all that say to come from a device of one account share a line.

        Raises:
            TooManyAttemptsError: too many attempts are in the line, or its counter refuses.
            HashingBusyError: too many hashes wait already; asked here, so that no counter is written to in vain.
        """
        async with self.lines.turn(whose, one_counter=device is None):
            self.passwords.require_room(known_device=device is not None)
            yield

    @asynccontextmanager
    async def counting(self, charge: Charge) -> AsyncIterator[None]:
        """Uncount an attempt whose block ends before anybody was told whether the password is right."""
        try:
            yield
        except HashingBusyError:
            try:
                await self.attempts.take_back(charge)
            except DatabaseUnavailableError:
                self.attempts.take_back_later(charge)
            raise
        except DatabaseUnavailableError:
            self.attempts.take_back_later(charge)
            raise

    async def matches(self, charge: Charge, password: SecretStr, password_hash: str | None) -> bool:
        """Whether the password of a charged attempt is that of the hash; None is nobody's.

        Raises:
            HashingBusyError: too many wait already.
        """
        return await self.passwords.matches(password, password_hash, known_device=charge.counter.kind == "device")

    def known_device(self, token: str | None, user_id: UUID, password_set_by: UUID) -> DeviceToken | None:
        """What a device token says, where it is valid for this user."""
        device = self.device_tokens.read(token)
        valid = device is not None and (device.user_id, device.password_set_by) == (user_id, password_set_by)
        return device if valid else None
