"""Renewing the token of a session ahead of its end, one at a time a session, whichever process of the console does it.

Refresh tokens work once at many providers, so two that renew with one would end the session. Whoever renews claims the
session's row for a while first. Nobody is signed out because the provider is away: a token is used as long as it is
good, and then the session waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final

import structlog

from chassis.http.problems import Problem
from chassis.outages import Outage, describe
from chassis.postgres.database import Database, DatabaseUnavailableError
from console.sign_in.provider import Provider, ProviderAwayError, ProviderRefusedError, ProviderTokens
from console.sign_in.sealing import digest, seal, unseal
from console.sign_in.sessions import ChecksTokens, Session
from console.sign_in.token_times import ends_at, renew_at

log = structlog.get_logger("console")

#: The provider says the first of a refresh token that is over, and we the second of tokens that it should not have
#: given; anything else that it refuses, for now or for what the settings say, ends nobody's session.
_OVER: Final = frozenset({"invalid_grant", "invalid_token"})
#: Longer than a provider is waited for; whoever dies meanwhile keeps others from it no longer.
_CLAIM: Final = timedelta(seconds=15)
#: After a try that failed.
_PAUSE: Final = timedelta(seconds=10)
#: A session whose token has ended waits for so long for another process that renews it, and looks this often.
_WAIT_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.2
#: The time for one row by its key.
_SECONDS: Final = 3.0

_CLAIM_ROW: Final = """
UPDATE console_sessions SET renewing_until = $2
WHERE digest = $1 AND (renewing_until IS NULL OR renewing_until <= $3) RETURNING sealed
"""
_LOOK: Final = "SELECT sealed FROM console_sessions WHERE digest = $1"
_KEEP: Final = "UPDATE console_sessions SET sealed = $2, renewing_until = NULL WHERE digest = $1"
_LEAVE: Final = "UPDATE console_sessions SET renewing_until = $2 WHERE digest = $1"


class Renewal:
    """Renews the tokens of sessions."""

    def __init__(
        self,
        provider: Provider,
        database: Database,
        seals: Sequence[str],
        authenticator: ChecksTokens,
        now: Callable[[], datetime],
    ) -> None:
        """The database has the sessions."""
        self._provider, self._database, self._seals = provider, database, seals
        self._authenticator, self._now = authenticator, now
        self._under_way: set[asyncio.Task[Exception | None]] = set()
        self._outage = Outage(log, "console.not_renewed", "console.renewed_again")

    async def finish(self) -> None:
        """Wait for what is under way: it has limits, and may have spent a refresh token."""
        await asyncio.gather(*self._under_way)

    async def renew(self, session: Session) -> None:
        """Give the session a newer token where it is time for that.

        Raises:
            ProviderAwayError: its token has ended, and cannot be renewed now.
            DatabaseUnavailableError: its token has ended, and its row cannot be claimed.
        """
        if not self._is_due(session) or (session.renewing.locked() and self._is_good(session)):
            return
        async with session.renewing:
            # Another request that held it may have done it.
            if self._is_due(session):
                await self._begin(session)

    async def _begin(self, session: Session) -> None:
        """Wait for it; a browser that leaves meanwhile takes nothing from the others, for the token may be spent."""
        task = asyncio.ensure_future(self._try(session))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        failure = await asyncio.shield(task)
        if failure is not None and not self._is_good(session):
            raise failure

    async def _try(self, session: Session) -> Exception | None:
        try:
            await self._renew(session)
        except (ProviderAwayError, DatabaseUnavailableError) as error:
            self._outage.failed(describe(error))
            return error
        return None

    def _is_due(self, session: Session) -> bool:
        return session.refresh is not None and session.renew_at is not None and session.renew_at <= self._now()

    def _is_good(self, session: Session) -> bool:
        return session.token is not None and ends_at(session.token) > self._now()

    async def _renew(self, session: Session) -> None:
        now = self._now()
        sealed = await self._fetch(_CLAIM_ROW, session, now + _CLAIM, now)
        if sealed is None:
            await self._wait_for_others(session)
            return
        self._take(session, sealed)
        if not self._is_due(session) or session.refresh is None:
            await self._fetch(_LEAVE, session, None)  # another process was quicker
            return
        try:
            tokens = await self._provider.tokens_for_refresh(session.refresh)
            await self._keep(session, tokens)
        except ProviderRefusedError as error:
            if error.error not in _OVER:
                await self._fetch(_LEAVE, session, self._now() + _PAUSE)
                raise ProviderAwayError(f"it refuses: {error}") from error
            # It goes on while its token is good, and then somebody signs in.
            log.info("console.renewal_refused", error=error.error)
            await self._store(session, session.token, None)
        except ProviderAwayError:
            await self._fetch(_LEAVE, session, self._now() + _PAUSE)
            raise

    async def _keep(self, session: Session, tokens: ProviderTokens) -> None:
        """Keep what the provider gave, where it is for the same person."""
        try:
            caller = await self._authenticator.authenticate(f"Bearer {tokens.access}")
        except Problem as error:
            raise ProviderRefusedError("invalid_token", error.detail) from error
        if session.caller is not None and caller.identity != session.caller.identity:
            raise ProviderRefusedError("invalid_token", "it is somebody else's")
        await self._store(session, tokens.access, tokens.refresh)

    async def _store(self, session: Session, token: str | None, refresh: str | None) -> None:
        due = renew_at(token, self._now()) if token is not None and refresh is not None else None
        session.token, session.refresh, session.renew_at = token, refresh, due
        sealed = seal(self._seals, session.id, session.content)
        await self._fetch(_KEEP, session, sealed)
        session.sealed = sealed
        self._outage.over()

    async def _wait_for_others(self, session: Session) -> None:
        """Take what another process makes of it; who cannot wait, since the token has ended, waits."""
        if self._is_good(session):
            return
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                while self._is_due(session):
                    await asyncio.sleep(_LOOK_SECONDS)
                    if (sealed := await self._fetch(_LOOK, session)) is not None:
                        self._take(session, sealed)
        except TimeoutError as error:
            # What is known already is no news to the log.
            why = self._outage.reason or "it was asked a moment ago, and gave no newer token"
            raise ProviderAwayError(why) from error

    def _take(self, session: Session, sealed: bytes) -> None:
        if sealed != session.sealed:
            session.take(unseal(self._seals, session.id, sealed))
            session.sealed = sealed

    async def _fetch(self, statement: str, session: Session, *values: object) -> bytes | None:
        async with self._database.connection(_SECONDS) as connection:
            found: bytes | None = await connection.fetchval(statement, digest(session.id), *values)
        return found


@asynccontextmanager
async def open_renewal(
    provider: Provider | None,
    database: Database,
    seals: Sequence[str],
    authenticator: ChecksTokens | None,
    now: Callable[[], datetime],
) -> AsyncIterator[Renewal | None]:
    """Renew tokens until the block ends; None where there is no identity provider."""
    if provider is None or authenticator is None:
        yield None
        return
    renewal = Renewal(provider, database, seals, authenticator, now)
    try:
        yield renewal
    finally:
        await renewal.finish()
