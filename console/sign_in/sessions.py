"""Sessions: a cookie's random id, whose row of the query database holds the token, sealed.

Each request asks for the row, so a session ends everywhere with its row. One that this process has seen stays good, in
memory, while the query database does not answer.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from chassis.access.caller import Caller
from chassis.http.problems import Problem
from chassis.postgres.database import Database, DatabaseUnavailableError
from console.sign_in.sealing import BrokenSealError, csrf_token, digest, new_id, seal, unseal

#: After which an operator signs in again.
SESSION_LIFETIME: Final = timedelta(hours=8)
#: Sessions that are remembered; those seen longest ago are forgotten, which costs them nothing but an outage.
_REMEMBERED: Final = 1000
#: Users whose data a session was shown in clear; beyond that the first are masked again.
_REVEALED: Final = 1000
#: For one row by its key.
_SECONDS: Final = 3.0

# What has expired goes with whatever begins next, as does the session that the browser had before.
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


class Authenticates(Protocol):
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

    @property
    def csrf(self) -> str:
        """What every form sends along."""
        return csrf_token(self.id)

    @property
    def actor(self) -> str | None:
        """Who acts, as events say it; None where access is switched off."""
        return self.caller.actor() if self.caller else None

    def may(self, *scopes: str) -> bool:
        """Whether the token has one of these scopes."""
        return self.caller is None or not self.caller.scopes.isdisjoint(scopes)


class Sessions:
    """The sessions of the console."""

    def __init__(
        self, database: Database, seals: Sequence[str], authenticator: Authenticates | None, now: Callable[[], datetime]
    ) -> None:
        """`authenticator` is None where access is switched off: then all share one session, without a cookie."""
        self._database, self._seals, self._authenticator, self._now = database, seals, authenticator, now
        self._seen: OrderedDict[bytes, Session] = OrderedDict()
        self._everybody = Session(new_id(), None, None, None)

    @property
    def open_to_all(self) -> bool:
        """Whether access is switched off."""
        return self._authenticator is None

    async def begin(self, token: str, *, instead_of: str = "", **content: Any) -> Session:
        """Keep a new session with this token, until the token ends and for SESSION_LIFETIME at most.

        A browser's cookie has one session: the one `instead_of` whose id it is kept ends.

        Raises:
            Problem: 401, the token is not good.
            DatabaseUnavailableError: it cannot be kept.
        """
        caller = await self._caller(token)
        now = self._now()
        session = Session(new_id(), token, caller, now + SESSION_LIFETIME)
        sealed = seal(self._seals, session.id, json.dumps({"token": token, **content}).encode())
        async with self._database.connection(_SECONDS) as connection:
            await connection.execute(_BEGIN, digest(session.id), sealed, session.expires_at, now, digest(instead_of))
        self._seen.pop(digest(instead_of), None)
        return self._remember(session)

    async def find(self, identifier: str) -> Session | None:
        """The session of a cookie's id, where it is still good.

        Raises:
            DatabaseUnavailableError: it was not seen here, and its row cannot be read.
        """
        if self.open_to_all:
            return self._everybody
        session = await self._read(identifier) if identifier else None
        if session is None or session.token is None or session.expires_at is None or session.expires_at <= self._now():
            return None
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
        session = seen or self._opened(identifier, row["sealed"], row["expires_at"])
        if session is not None:
            session.revealed = row["revealed"]
        return session

    def _opened(self, identifier: str, sealed: bytes, expires_at: datetime) -> Session | None:
        try:
            content = json.loads(unseal(self._seals, identifier, sealed))
        except BrokenSealError:
            return None
        return self._remember(Session(identifier, content["token"], None, expires_at))

    def _remember(self, session: Session) -> Session:
        self._seen[digest(session.id)] = session
        while len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return session

    async def _caller(self, token: str) -> Caller:
        assert self._authenticator is not None
        return await self._authenticator.authenticate(f"Bearer {token}")
