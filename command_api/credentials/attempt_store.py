"""Counters of attempts in the command database: one statement charges an attempt or refuses it, and loads the user.

An attempt is charged as a failure before its hash is computed, so that however many come at once, in whichever process,
no more hashes are computed than the limits let through. A success ends the counter. PostgreSQL's clock counts, so all
processes have the same one.
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
from command_api.credentials.attempts import (
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
from command_api.credentials.device_tokens import DeviceToken
from command_api.credentials.keys import CredentialKeys
from command_api.users.rows import PUBLIC_COLUMNS, public_user
from events.user_events import PublicUser

log = structlog.get_logger("credentials")

#: `$1` is the time, PostgreSQL's own where it is null; `$2` the counter, `$3` its kind; `$4` to `$6` the limits: how
#: many failures, within how long, and the refusals that follow. `chosen` is one row, with the counter that is charged.
#: A counter that refuses is not written to, so a flood costs reads alone. Where another attempt took the last place
#: since the statement began, there is neither a charge nor a refusal to be seen.
_CHARGE: Final = """
charged AS (
    INSERT INTO credential_attempts AS a (counter, kind, failed_at, refused_until, expires_at)
    SELECT counter, kind, ARRAY[now], now + ($6::interval[])[2 - $4::int], now + greatest($5, ($6)[cardinality($6)])
    FROM chosen
    WHERE NOT EXISTS (
        SELECT FROM credential_attempts known WHERE known.counter = chosen.counter AND known.refused_until > now
    )
    ON CONFLICT (counter) DO UPDATE SET (failed_at, refused_until, expires_at) = (
        SELECT recent, excluded.failed_at[1] + ($6)[least(cardinality(recent) - $4 + 1, cardinality($6))],
            excluded.expires_at
        FROM (
            SELECT excluded.failed_at || ARRAY(
                SELECT past FROM unnest(a.failed_at) past WHERE past > excluded.failed_at[1] - $5::interval
                ORDER BY past DESC LIMIT $4 + cardinality($6)
            ) AS recent
        ) counted
    )
    WHERE a.refused_until IS NULL OR a.refused_until <= excluded.failed_at[1]
    RETURNING failed_at[1] AS at
)
SELECT chosen.*, charged.at, extract(epoch FROM known.refused_until - now)::float8 AS refused_seconds,
    extract(epoch FROM now - known.failed_at[1])::float8 AS idle_seconds
FROM chosen LEFT JOIN charged ON true LEFT JOIN credential_attempts known USING (counter)
"""
_NOW: Final = "coalesce($1::timestamptz, clock_timestamp()) AS now"
_CHARGE_COUNTER: Final = (
    f"WITH chosen AS MATERIALIZED (SELECT {_NOW}, $2::bytea AS counter, $3::text AS kind), {_CHARGE}"
)
#: `$7` is the key of an address or a username; `$8` to `$10` are a device token's counter, account and event. A user
#: whose password's event was not kept has its own id in its place (command_api/users/tables.py).
_CHARGE_AND_LOAD: Final = f"""
WITH chosen AS MATERIALIZED (
    SELECT {_NOW}, CASE WHEN known THEN $8::bytea ELSE $2::bytea END AS counter,
        CASE WHEN known THEN 'device' ELSE $3::text END AS kind, id, version, password_hash, password_set_by
    FROM (SELECT) one LEFT JOIN (
        SELECT id, version, password_hash, coalesce(password_set_by, id) AS password_set_by,
            id = $9::uuid AND coalesce(password_set_by, id) = $10::uuid AS known
        FROM users WHERE {{column}} = $7 AND status = 'active'
    ) active ON true
), {_CHARGE}"""  # noqa: S608 - of constants
_BY_EMAIL: Final = _CHARGE_AND_LOAD.format(column="email_key")
_BY_USERNAME: Final = _CHARGE_AND_LOAD.format(column="username_key")

#: An attempt that was charged no longer ago may still be under way, and succeed: then nobody is refused.
OPEN_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.1
#: Attempts that wait to be uncounted, at most; a process checks fewer passwords than this while its database goes away.
MOST_UNDECIDED: Final = 1000
RETRY_FIRST_SECONDS: Final = 0.1
RETRY_CAP_SECONDS: Final = 5.0
#: As if the attempt had not been: a refusal goes with it that it brought, or that is left without failures enough. One
#: that was carried over from another counter stays.
_TAKE_BACK: Final = """
WITH without AS (
    SELECT counter, place, failed_at[:place - 1] || failed_at[place + 1:] AS rest
    FROM (SELECT counter, failed_at, array_position(failed_at, $2::timestamptz) AS place
        FROM credential_attempts WHERE counter = $1 FOR UPDATE) locked
    WHERE place IS NOT NULL
), emptied AS (
    DELETE FROM credential_attempts a USING without w WHERE a.counter = w.counter AND cardinality(rest) = 0
)
UPDATE credential_attempts a SET failed_at = rest, refused_until = CASE
    WHEN cardinality(rest) < $3::int OR refused_until IN (SELECT $2 + refusal FROM unnest($4::interval[]) refusal)
    THEN NULL ELSE refused_until END
FROM without w WHERE a.counter = w.counter AND cardinality(rest) > 0
"""
#: A password that was checked against what is no longer the user's, or whose user is not active any more, or has
#: another identifier by now, is none: so a guess that was charged to the identifier before comes to nothing.
_SUCCEED: Final = f"""
WITH present AS (
    SELECT {", ".join(PUBLIC_COLUMNS)} FROM users
    WHERE id = $1 AND status = 'active' AND coalesce(password_set_by, id) = $2 AND $6 IN (email_key, username_key)
), ended AS (
    DELETE FROM credential_attempts WHERE counter = $3 AND EXISTS (SELECT FROM present)
), hashed_again AS (
    UPDATE users SET password_hash = $4 WHERE id = $1 AND version = $5 AND $4::text IS NOT NULL
)
SELECT * FROM present
"""  # noqa: S608 - of constants
#: `$1` and `$2` are the counters of a user's old identifier and of the new one, `$3` how many failures are kept. The
#: old one stays as it is: nobody may learn from it that somebody had that identifier.
_CARRY: Final = """
INSERT INTO credential_attempts AS a (counter, kind, failed_at, refused_until, expires_at)
SELECT $2, kind, failed_at, refused_until, expires_at
FROM (SELECT * FROM credential_attempts WHERE counter = $1 FOR UPDATE) old
ON CONFLICT (counter) DO UPDATE SET
    failed_at = ARRAY(
        SELECT DISTINCT past FROM unnest(a.failed_at || excluded.failed_at) past ORDER BY past DESC LIMIT $3
    ),
    refused_until = greatest(a.refused_until, excluded.refused_until),
    expires_at = greatest(a.expires_at, excluded.expires_at)
"""
_END: Final = "DELETE FROM credential_attempts WHERE counter = ANY ($1::bytea[])"


@dataclass(frozen=True, slots=True)
class Charge:
    """An attempt that was let in, and counts as a failure until it succeeds."""

    counter: Counter
    at: datetime


@dataclass(frozen=True, slots=True)
class Candidate:
    """An active user whom an identifier names."""

    id: UUID
    #: That of the identifier.
    key: str
    version: int
    #: None where the user has no password.
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
    async def charge(self, counter: Counter, now: datetime | None = None) -> Charge:
        """Charge an attempt; `now` is PostgreSQL's time unless it is given.

        Raises:
            TooManyAttemptsError: the counter refuses.
            DatabaseUnavailableError: it cannot be asked now.
        """
        charge, _ = await self._charge(_CHARGE_COUNTER, counter, now)
        return charge

    @begun_again
    async def charge_login(
        self, identifier: str, device: DeviceToken | None, now: datetime | None = None
    ) -> tuple[Charge, Candidate | None]:
        """Charge an attempt to log in, and load the active user whom the identifier names.

        It is charged to the device where the token is valid for that user, else to the identifier; raises as `charge`.
        """
        key = identifier_key(identifier)
        known = (of_device(self._keys, device.nonce).digest, device.user_id, device.password_set_by) if device else None
        sql = _BY_EMAIL if AT in identifier else _BY_USERNAME
        charge, row = await self._charge(sql, of_identifier(self._keys, key), now, key, *(known or (None, None, None)))
        if row["id"] is None:
            return charge, None
        return charge, Candidate(row["id"], key, row["version"], row["password_hash"], row["password_set_by"])

    async def _charge(self, sql: str, counter: Counter, now: datetime | None, *more: Any) -> tuple[Charge, Any]:
        limits = self._limits
        numbers = (limits.failures, limits.window, limits.refusals)
        while True:
            async with self._database.connection() as connection:
                row = await connection.fetchrow(sql, now, counter.digest, counter.kind, *numbers, *more)
            assert row is not None, "an outer join from one row"
            if row["at"] is not None:
                return Charge(Counter(row["kind"], row["counter"]), row["at"]), row
            refused, idle = row["refused_seconds"] or 0, row["idle_seconds"] or 0
            if refused > 0 and (now or idle >= OPEN_SECONDS):
                raise TooManyAttemptsError(ceil(refused))
            # Another attempt took the last place just now; asked again, it has succeeded, or the refusal stands.
            await asyncio.sleep(LOOK_SECONDS)

    @begun_again
    async def take_back(self, charge: Charge) -> None:
        """Uncount an attempt whose password was not looked at."""
        async with self._database.connection() as connection:
            limits = self._limits
            await connection.execute(_TAKE_BACK, charge.counter.digest, charge.at, limits.failures, limits.refusals)

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
        then = (charge.counter.digest, new_hash, candidate.version, candidate.key)
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_SUCCEED, *user, *then)
        return None if row is None else public_user(row)

    @begun_again
    async def end(self, counter: Counter) -> None:
        """End a counter: the attempt that was charged to it succeeded."""
        async with self._database.connection() as connection:
            await connection.execute(_END, [counter.digest])

    async def carry(self, connection: Connection, before: PublicUser, after: PublicUser) -> None:
        """Have a user's other address or name begin with the failures of the old one, within the caller's transaction.

        Whoever may change them would otherwise have as many guesses again with each change.
        """
        kept = self._limits.failures + len(self._limits.refusals)
        for old, new in moved_counters(self._keys, before, after):
            await connection.execute(_CARRY, old.digest, new.digest, kept)

    async def clear(self, connection: Connection, user: PublicUser) -> None:
        """End the counters of the account, of address and username both, within the caller's transaction."""
        await connection.execute(_END, counters_of_account(self._keys, user))
