"""Sessions: a cookie's random id, whose row of the query database holds the token, sealed.

Each request asks for the row, so a session ends everywhere with its row. One that this process has seen stays good, in
memory, while the query database does not answer.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol
from uuid import UUID

import asyncpg

from chassis.access.caller import Caller
from chassis.http.problems import Problem
from chassis.postgres.database import Connection, Database, DatabaseUnavailableError
from console.sign_in.sealing import BrokenSealError, csrf_token, digest, new_id, seal, unseal
from console.sign_in.token_times import renew_at

#: After which an operator signs in again.
SESSION_LIFETIME: Final = timedelta(hours=8)
#: Sessions that are remembered; those seen longest ago are forgotten, which costs them nothing but an outage.
_REMEMBERED: Final = 1000
#: Users whose data a session was shown in clear; beyond that the first are masked again.
_REVEALED: Final = 1000
#: The time for one row by its key.
_SECONDS: Final = 3.0

# Sessions that have expired go with whatever begins next, as does the one that the browser had before.
_BEGIN: Final = """
WITH ended AS (DELETE FROM console_sessions WHERE expires_at <= $4 OR digest = $5)
INSERT INTO console_sessions (digest, sealed, expires_at) VALUES ($1, $2, $3)
"""
_FIND: Final = "SELECT sealed, expires_at, revealed FROM console_sessions WHERE digest = $1"
# One statement, so that of two reveals at once none is lost; those revealed last are the last.
_REVEAL: Final = """
UPDATE console_sessions SET revealed = ARRAY (
    SELECT id FROM (
        SELECT id, max(place) AS place FROM unnest(revealed || $2::uuid[]) WITH ORDINALITY AS each (id, place)
        GROUP BY id ORDER BY place DESC LIMIT $3
    ) AS kept ORDER BY place
) WHERE digest = $1 RETURNING revealed
"""
_END: Final = "DELETE FROM console_sessions WHERE digest = $1"


class Renews(Protocol):
    """Has the identity provider renew a session's token."""

    async def renew(self, session: Session) -> None:
        """Give the session a newer token where it is time for that; a token that is still good may stay."""


class ChecksTokens(Protocol):
    """Turns a token into a caller."""

    async def authenticate(self, authorization: str) -> Caller:
        """The caller.

        Raises:
            Problem: 401.
        """


@dataclass(slots=True)
class Session:
    """One sign-in; where access is switched off, everybody's."""

    id: str
    #: The operator's own, for the APIs; None where access is switched off.
    token: str | None
    caller: Caller | None
    expires_at: datetime | None
    #: Users whose data are shown in clear, those revealed last at the end.
    revealed: Sequence[UUID] = ()
    #: The refresh token, and the time from which it is used; None where nothing renews the token.
    refresh: str | None = None
    renew_at: datetime | None = None
    #: The content of the row, by which a session that was renewed elsewhere is known.
    sealed: bytes = b""
    #: One renewal at a time.
    renewing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def csrf(self) -> str:
        """The token that every form sends along."""
        return csrf_token(self.id)

    @property
    def actor(self) -> str | None:
        """The actor, as events say it; None where access is switched off."""
        return self.caller.actor() if self.caller else None

    @property
    def content(self) -> bytes:
        """The part of it that is sealed."""
        due = self.renew_at and self.renew_at.timestamp()
        return json.dumps({"token": self.token, "refresh": self.refresh, "renew_at": due}).encode()

    def take(self, content: bytes) -> None:
        """Have what was sealed."""
        said = json.loads(content)
        self.token, self.refresh, due = said["token"], said.get("refresh"), said.get("renew_at")
        self.renew_at = None if due is None else datetime.fromtimestamp(due, UTC)

    def may(self, *scopes: str) -> bool:
        """True where the token has one of these scopes."""
        return self.caller is None or not self.caller.scopes.isdisjoint(scopes)


class Sessions:
    """The sessions of the console."""

    def __init__(
        self,
        database: Database,
        seals: Sequence[str],
        authenticator: ChecksTokens | None,
        now: Callable[[], datetime],
        renewal: Renews | None = None,
    ) -> None:
        """`authenticator` is None where access is switched off: then all share one session, without a cookie.

        `renewal` is None where there is no identity provider.
        """
        self._renewal = renewal
        self._database, self._seals, self._authenticator, self._now = database, seals, authenticator, now
        self._seen: OrderedDict[bytes, Session] = OrderedDict()
        self._everybody = Session(new_id(), None, None, None)

    @property
    def open_to_all(self) -> bool:
        """True where access is switched off."""
        return self._authenticator is None

    async def begin(
        self,
        token: str,
        refresh: str | None = None,
        *,
        instead_of: str = "",
        connection: Connection | None = None,
    ) -> Session:
        """Keep a new session with this token, as long as that is good or renewed, and for SESSION_LIFETIME at most.

        A browser's cookie has one session: the one `instead_of` whose id it is kept ends. It is kept in the transaction
        of `connection`, where one is given.

        Raises:
            Problem: 401, the token is not good.
            DatabaseUnavailableError: it cannot be kept.
        """
        caller = await self._caller(token)
        now = self._now()
        due = renew_at(token, now) if refresh is not None else None
        session = Session(new_id(), token, caller, now + SESSION_LIFETIME, refresh=refresh, renew_at=due)
        session.sealed = seal(self._seals, session.id, session.content)
        kept = digest(session.id), session.sealed, session.expires_at, now, digest(instead_of)
        async with nullcontext(connection) if connection else self._database.connection(_SECONDS) as used:
            await used.execute(_BEGIN, *kept)
        self._seen.pop(digest(instead_of), None)
        return self._remember(session)

    async def find(self, identifier: str) -> Session | None:
        """The session of a cookie's id, where it is still good.

        Raises:
            DatabaseUnavailableError: it was not seen here, and its row cannot be read.
            ProviderAwayError: its token has ended, and the identity provider, which could renew it, does not answer.
        """
        if self.open_to_all:
            return self._everybody
        session = await self._read(identifier) if identifier else None
        if session is None or session.token is None or session.expires_at is None or session.expires_at <= self._now():
            return None
        if self._renewal is not None:
            await self._renewal.renew(session)
        try:
            session.caller = await self._caller(session.token)
        except Problem:
            return None
        return session

    async def reveal(self, session: Session, users: Sequence[UUID]) -> None:
        """Show these users' data in clear from now on, in this session.

        Raises:
            DatabaseUnavailableError: it cannot be kept.
        """
        if self.open_to_all:
            session.revealed = [*(user for user in session.revealed if user not in users), *users][-_REVEALED:]
            return
        async with self._database.connection(_SECONDS) as connection:
            session.revealed = await connection.fetchval(_REVEAL, digest(session.id), users, _REVEALED) or ()

    async def end(self, session: Session) -> None:
        """Delete its row: nobody who has its id is let in any more.

        Raises:
            DatabaseUnavailableError: the row cannot be deleted, so the session goes on.
        """
        async with self._database.connection(_SECONDS) as connection:
            await connection.execute(_END, digest(session.id))
        self._seen.pop(digest(session.id), None)

    async def _read(self, identifier: str) -> Session | None:
        key = digest(identifier)
        seen = self._seen.get(key)
        if seen is not None:
            self._seen.move_to_end(key)
        try:
            async with self._database.connection(_SECONDS) as connection:
                row = await connection.fetchrow(_FIND, key)
        except DatabaseUnavailableError:
            if seen is None:
                raise
            return seen
        if row is None:
            self._seen.pop(key, None)
            return None
        session = seen if seen and seen.sealed == row["sealed"] else self._opened(identifier, row)
        if session is not None:
            session.revealed = row["revealed"]
        return session

    def _opened(self, identifier: str, row: asyncpg.Record) -> Session | None:
        """The session of a row; one that is known keeps its place, for others may hold it."""
        session = self._seen.get(digest(identifier)) or Session(identifier, None, None, row["expires_at"])
        try:
            session.take(unseal(self._seals, identifier, row["sealed"]))
        except BrokenSealError:
            return None
        session.sealed = row["sealed"]
        return self._remember(session)

    def _remember(self, session: Session) -> Session:
        self._seen[digest(session.id)] = session
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return session

    async def _caller(self, token: str) -> Caller:
        assert self._authenticator is not None
        return await self._authenticator.authenticate(f"Bearer {token}")
