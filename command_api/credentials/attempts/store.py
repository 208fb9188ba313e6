"""Counters of attempts in the command database: one statement charges an attempt or refuses it, and loads the user.

An attempt is charged as a failure before its hash is computed, so that however many come at once, in whichever process,
no more hashes are computed than the limits let through. A success ends the counter, but for the most failures of a
window. PostgreSQL's clock counts, so all processes have the same one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Any, Final
from uuid import UUID

import structlog

from chassis.lifecycle import Backoff, alongside
from chassis.outages import Outage
from chassis.postgres.database import Connection, Database, describe
from chassis.postgres.errors import begun_again
from command_api.credentials.attempts.refusals import Refusals
from command_api.credentials.attempts.rule import (
    AT,
    AttemptLimits,
    Counter,
    TooManyAttemptsError,
    counters_of_account,
    identifier_key,
    moved_counters,
    of_device,
    of_identifier,
)
from command_api.credentials.attempts.statements import (
    CARRY,
    CHARGE_BY_EMAIL,
    CHARGE_BY_USERNAME,
    CHARGE_COUNTER,
    END,
    FORGIVE,
    SUCCEED,
    TAKE_BACK,
)
from command_api.credentials.device_tokens import DeviceToken
from command_api.credentials.keys import CredentialKeys
from command_api.passwords.hashing import Room
from command_api.passwords.lanes import QUEUE_FULL, HashingBusyError
from command_api.users.rows import public_user
from events.user_events import PublicUser

log = structlog.get_logger("credentials")

#: An attempt that was charged no longer ago may still be under way, and succeed: then nobody is refused.
OPEN_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.1
#: Attempts that wait to be uncounted, at most; a process checks fewer passwords than this while its database goes away.
MOST_UNDECIDED: Final = 1000
RETRY_FIRST_SECONDS: Final = 0.1
RETRY_CAP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Charge:
    """An attempt that was let in, and counts as a failure until it succeeds."""

    counter: Counter
    at: datetime
    #: Seconds that the counter refuses from this attempt on, unless it succeeds; None where it goes on letting in.
    then_refuses: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An active user whom an identifier names."""

    id: UUID
    #: The key of the identifier.
    key: str
    version: int
    #: The hash of the user's password; None where there is none.
    password_hash: str | None
    password_set_by: UUID


class AttemptStore:
    """One connection and one round trip a call; a connection is never held while a password is hashed.

    More round trips are where attempts that are under way fill a counter.
    """

    def __init__(self, database: Database, keys: CredentialKeys, limits: AttemptLimits) -> None:
        """Nothing is connected yet; use `open`, where attempts may have to be taken back later."""
        self._database = database
        self._keys = keys
        self._limits = limits
        self.refusals = Refusals()
        self._undecided: deque[Charge] = deque(maxlen=MOST_UNDECIDED)
        self._asked = asyncio.Event()
        self._outage = Outage(log, "credentials.take_back_failed", "credentials.taking_back_again")

    @classmethod
    @asynccontextmanager
    async def open(cls, database: Database, keys: CredentialKeys, limits: AttemptLimits) -> AsyncIterator[AttemptStore]:
        """Take back in the background, until the block ends, what could not be taken back at once."""
        store = cls(database, keys, limits)
        async with alongside(store._keep_taking_back()):
            yield store

    @begun_again
    async def charge(self, counter: Counter, room: Room, now: datetime | None = None) -> Charge:
        """Charge an attempt; `now` is PostgreSQL's time unless it is given.

        Raises:
            TooManyAttemptsError: the counter refuses.
            HashingBusyError: there is no room for a hash; nothing was charged.
            DatabaseUnavailableError: it cannot be asked now.
        """
        has_room = room.known_devices if counter.kind == "device" else room.others
        charge, _ = await self._charge(CHARGE_COUNTER, counter, now, has_room)
        return charge

    @begun_again
    async def charge_login(
        self, identifier: str, device: DeviceToken | None, room: Room, now: datetime | None = None
    ) -> tuple[Charge, Candidate | None]:
        """Charge an attempt to log in, and load the active user whom the identifier names.

        It is charged to the device where the token is valid for that user, else to the identifier; so it needs room
        among known devices, or among the others. Raises as `charge`.
        """
        key = identifier_key(identifier)
        known = (of_device(self._keys, device.nonce).digest, device.user_id, device.password_set_by) if device else None
        sql = CHARGE_BY_EMAIL if AT in identifier else CHARGE_BY_USERNAME
        more = (key, *(known or (None, None, None)), room.known_devices, room.others)
        charge, row = await self._charge(sql, of_identifier(self._keys, key), now, *more)
        if row["id"] is None:
            return charge, None
        return charge, Candidate(row["id"], key, row["version"], row["password_hash"], row["password_set_by"])

    async def _charge(self, sql: str, counter: Counter, now: datetime | None, *more: Any) -> tuple[Charge, Any]:
        limits = self._limits
        numbers = (limits.failures, limits.window, limits.refusals, limits.most)
        while True:
            async with self._database.connection() as connection:
                row = await connection.fetchrow(sql, now, counter.digest, counter.kind, *numbers, *more)
            assert row is not None, "an outer join from one row"
            if row["at"] is not None:
                return Charge(Counter(row["kind"], row["counter"]), row["at"], row["then_refuses"]), row
            if not row["room"]:
                raise HashingBusyError(QUEUE_FULL)
            refused, idle = row["refused"] or 0, row["idle"] or 0
            if refused > 0 and (now or idle >= OPEN_SECONDS):
                self.refusals.note(Counter(row["kind"], row["counter"]), refused)
                raise TooManyAttemptsError(ceil(refused))
            # Another attempt took the last place just now; asked again, it has succeeded, or the refusal stands.
            await asyncio.sleep(LOOK_SECONDS)

    @begun_again
    async def take_back(self, charge: Charge) -> None:
        """Uncount an attempt whose password was not looked at."""
        limits = self._limits
        numbers = (limits.failures, limits.refusals, limits.most)
        async with self._database.connection() as connection:
            await connection.execute(TAKE_BACK, charge.counter.digest, charge.at, *numbers)

    def take_back_later(self, charge: Charge) -> None:
        """Uncount an attempt as soon as the database is there; the oldest is forgotten beyond MOST_UNDECIDED."""
        self._undecided.append(charge)
        self._asked.set()

    async def _keep_taking_back(self) -> None:
        backoff = Backoff(first=RETRY_FIRST_SECONDS, cap=RETRY_CAP_SECONDS)
        while True:
            await self._asked.wait()
            try:
                while self._undecided:
                    charge = self._undecided.popleft()
                    await self.take_back(charge)
                self._asked.clear()
                backoff.reset()
                self._outage.over()
            except Exception as error:  # noqa: BLE001 - logged, and tried again
                self._outage.failed(describe(error))
                self._undecided.append(charge)
                await asyncio.sleep(backoff.next())

    @begun_again
    async def succeed(self, charge: Charge, candidate: Candidate, new_hash: str | None) -> PublicUser | None:
        """End the counter, and give the user as it is now; `new_hash`, of the same password, takes the old one's place.

        That is done at the version that was read alone; it is no event. None, and nothing is done, where meanwhile
        another password was set, or the identifier is another user's or nobody's, or the user is not active any more.
        """
        user = (candidate.id, candidate.password_set_by)
        then = (charge.counter.digest, new_hash, candidate.version, candidate.key, charge.at)
        async with self._database.connection() as connection:
            row = await connection.fetchrow(SUCCEED, *user, *then)
        self.refusals.forget(charge.counter.digest)
        return None if row is None else public_user(row)

    @begun_again
    async def end(self, charge: Charge) -> None:
        """End the counter of an attempt that succeeded."""
        async with self._database.connection() as connection:
            await connection.execute(FORGIVE, charge.counter.digest, charge.at)
        self.refusals.forget(charge.counter.digest)

    async def carry(self, connection: Connection, before: PublicUser, after: PublicUser) -> None:
        """Have a user's other address or name begin with the failures of the old one, within the caller's transaction.

        Whoever may change them would otherwise have as many guesses again with each change.
        """
        for old, new in moved_counters(self._keys, before, after):
            await connection.execute(CARRY, old.digest, new.digest, self._limits.most)

    async def clear(self, connection: Connection, user: PublicUser) -> None:
        """End the counters of the account, of address and username both, within the caller's transaction.

        Nothing is left of them: what was guessed was another password. Call `cleared` once that is committed.
        """
        await connection.execute(END, counters_of_account(self._keys, user))

    def cleared(self, user: PublicUser) -> None:
        """Let attempts on the account in again at once; other processes do within MEMORY_SECONDS (refusals.py)."""
        self.refusals.forget(*counters_of_account(self._keys, user))
