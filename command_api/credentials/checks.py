"""Every check of a password: charged to a counter first, then hashed; a success ends the counter.

No connection is held while a hash is computed. An attempt that finds no place among the hashes, or whose success the
database does not take, is uncounted again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeVar
from uuid import UUID

import structlog
from prometheus_client import Counter as Metric
from pydantic import SecretStr

from chassis.postgres.database import DatabaseUnavailableError
from chassis.text_keys import email_key
from command_api.credentials.attempts.lines import Lines
from command_api.credentials.attempts.rule import (
    Counter,
    FloodError,
    TooManyAttemptsError,
    of_device,
    of_identifier,
    of_self,
)
from command_api.credentials.attempts.store import AttemptStore, Charge
from command_api.credentials.device_tokens import DeviceToken, DeviceTokens
from command_api.credentials.keys import CredentialKeys
from command_api.passwords.hashing import Passwords, Room
from command_api.passwords.lanes import QUEUE_FULL, HashingBusyError
from events.user_events import PublicUser

C = TypeVar("C")

_ATTEMPTS: Final = Metric("muster_credential_attempts_total", "Passwords that were to be checked.", ["outcome"])
#: Attempts that are refused unread; each is to be counted once.
THROTTLED: Final = _ATTEMPTS.labels("throttled")


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordChecks:
    """Checks passwords as often as the counters let it."""

    keys: CredentialKeys
    attempts: AttemptStore
    passwords: Passwords
    device_tokens: DeviceTokens
    lines: Lines = field(default_factory=Lines)

    async def is_current(  # noqa: PLR0913 - what an attempt is about
        self,
        user: PublicUser,
        password_hash: str | None,
        current: SecretStr,
        device: DeviceToken | None,
        *,
        own: bool,
        who: structlog.typing.FilteringBoundLogger,
    ) -> bool:
        """True where this is the user's password; `device` is valid for the user, `own` says that the user itself asks.

        Raises:
            TooManyAttemptsError: the counter refuses.
            HashingBusyError, DatabaseUnavailableError: as their classes say; the attempt does not count.
        """
        shared = of_self(self.keys, user.id) if own else of_identifier(self.keys, email_key(user.email))
        counter = of_device(self.keys, device.nonce) if device else shared

        async def charging(room: Room) -> tuple[Charge, None]:
            return await self.attempts.charge(counter, room), None

        async with self.attempt(shared, device, charging) as (charge, _):
            right = await self.matches(charge, current, password_hash)
            if right:
                await self.attempts.end(charge)
        self.note(charge, who, right=right)
        return right

    @asynccontextmanager
    async def attempt(
        self, shared: Counter, device: DeviceToken | None, charging: Callable[[Room], Awaitable[tuple[Charge, C]]]
    ) -> AsyncIterator[tuple[Charge, C]]:
        """Charge an attempt when its turn comes, and uncount it where the block ends before anybody was told.

        `shared` is the counter of those who come from no known device; only `charging` finds out whether `device` is
        one. Of those who are refused here nothing but a number is kept: a flood writes no log.

        Raises:
            TooManyAttemptsError: too many attempts are in the line, or the counter refuses.
            HashingBusyError: too many hashes wait already; seen before the charge, so that none is written in vain.
        """
        try:
            if device is None:
                self.attempts.refusals.check(shared)
            async with self._turn(shared, device):
                room = self.passwords.room()
                if not (room.others or (device and room.known_devices)):
                    raise HashingBusyError(QUEUE_FULL)
                charge, loaded = await charging(room)
                async with self._counting(charge):
                    yield charge, loaded
        except TooManyAttemptsError as error:
            if device is None and isinstance(error, FloodError):
                # The rest of it is answered from memory, which leaves others and those in the line their time.
                self.attempts.refusals.note(shared, error.seconds)
            THROTTLED.inc()
            raise

    def _turn(self, shared: Counter, device: DeviceToken | None) -> AbstractAsyncContextManager[None]:
        """A place in the line: by what a token proves, which is less than that it still holds."""
        if device is None:
            return self.lines.turn(shared)
        proved = (device.user_id, device.password_set_by)
        return self.lines.turn_of_device((device.nonce, shared), (proved, shared))

    @asynccontextmanager
    async def _counting(self, charge: Charge) -> AsyncIterator[None]:
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
        """True where the password of a charged attempt is that of the hash; None is nobody's.

        Raises:
            HashingBusyError: too many wait already.
        """
        counter = charge.counter
        return await self.passwords.matches(password, password_hash, counter, known_device=counter.kind == "device")

    def note(self, charge: Charge, who: structlog.typing.FilteringBoundLogger, *, right: bool) -> None:
        """Count and log what became of an attempt; `who` says whose it was, and who made it.

        That a counter refuses from now on has one line, of the attempt that brought it.
        """
        _ATTEMPTS.labels("right" if right else "wrong").inc()
        if right:
            return
        who.info("credentials.refused")
        if charge.then_refuses is not None:
            who.info("credentials.throttled", counter=charge.counter.kind, seconds=charge.then_refuses)

    def known_device(self, token: str | None, user_id: UUID, password_set_by: UUID) -> DeviceToken | None:
        """The content of a device token, where it is valid for this user."""
        device = self.device_tokens.read(token)
        valid = device is not None and (device.user_id, device.password_set_by) == (user_id, password_set_by)
        return device if valid else None
