"""Statements on the query database: bounded in time, and every failure turned into what the client can do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Final

import asyncpg

from chassis.http.problems import ProblemType, unavailable
from chassis.postgres.database import PLAN_BY_VALUES, DatabaseUnavailableError, describe
from chassis.postgres.errors import means_later
from query_api.protocol.problems import TOO_EXPENSIVE, retry_later
from query_api.reading.database import GRACE_SECONDS, FetchedRows, ReadDatabase, ReadStatement

#: Readiness asks for one row.
_CHECK_SECONDS: Final = 1.0


class Reader:
    """Runs one statement on one connection at a time."""

    def __init__(self, database: ReadDatabase, *, statement_ms: int, generation_gone: Callable[[], None]) -> None:
        """The connections carry `statement_ms` as their statement_timeout; here it bounds the wait for an answer.

        `generation_gone` is called when a statement names tables that no longer exist.
        """
        self._database = database
        self._seconds = statement_ms / 1000 + GRACE_SECONDS
        self._generation_gone = generation_gone
        #: The statements that queue for a connection, by what they say.
        self._queued: dict[Hashable, asyncio.Task[FetchedRows]] = {}

    async def fetch(self, sql: str, arguments: Sequence[Any], *, plan_each_time: bool = False) -> FetchedRows:
        """The rows.

        While statements queue for a connection, one that says the same as a queued one shares its rows. The queued one
        is not sent yet, so its rows are as fresh as one's own would be. A page that everybody asks for at once is then
        read a few times, not once for each request.

        Raises:
            Problem: 503, `query-too-expensive` past the statement's time limit.
            DatabaseUnavailableError: there was no connection, or it failed.
        """
        try:
            if self._database.lending.is_crowded:
                return await self._fetch_shared(sql, arguments, plan_each_time=plan_each_time)
            return await self._database.fetch(self._statement(sql, arguments, plan_each_time=plan_each_time))
        except asyncpg.PostgresError as error:
            self._explain(error, TOO_EXPENSIVE)
            raise

    def _statement(self, sql: str, arguments: Sequence[Any], *, plan_each_time: bool) -> ReadStatement:
        return ReadStatement(sql, arguments, self._seconds, PLAN_BY_VALUES if plan_each_time else "")

    async def _fetch_shared(self, sql: str, arguments: Sequence[Any], *, plan_each_time: bool) -> FetchedRows:
        key = (sql, *(tuple(value) if isinstance(value, list | set) else value for value in arguments))
        fetching = self._queued.get(key)
        if fetching is None:
            sent = partial(self._queued.pop, key, None)
            statement = self._statement(sql, arguments, plan_each_time=plan_each_time)._replace(started=sent)
            fetching = self._queued[key] = asyncio.ensure_future(self._database.fetch(statement))
            fetching.add_done_callback(partial(self._fetched, key))
        # A request that leaves does not end what others wait for.
        return await asyncio.shield(fetching)

    def _fetched(self, key: Hashable, fetching: asyncio.Task[FetchedRows]) -> None:
        if self._queued.get(key) is fetching:
            # It was refused in the queue.
            del self._queued[key]
        if not fetching.cancelled():
            # Readers raise its error; nobody does where all have left.
            fetching.exception()

    async def fetch_limited(
        self, sql: str, arguments: Sequence[Any], *, limit_ms: int, too_slow: ProblemType = TOO_EXPENSIVE
    ) -> FetchedRows:
        """The rows, within a time limit of their own.

        Raises:
            Problem: 503 `too_slow` past the limit.
            DatabaseUnavailableError: there was no connection, or it failed.
        """
        try:
            return await self._database.fetch_limited(sql, arguments, limit_ms=limit_ms)
        except asyncpg.PostgresError as error:
            self._explain(error, too_slow)
            raise

    async def check(self) -> None:
        """Ask the server for one row, for readiness.

        Raises:
            DatabaseUnavailableError: it did not answer.
        """
        await self._database.fetch(ReadStatement("SELECT 1", (), _CHECK_SECONDS))

    def _explain(self, error: asyncpg.PostgresError, too_slow: ProblemType) -> None:
        """Raise what the client can do about it; return if the mistake is ours."""
        if isinstance(error, asyncpg.QueryCanceledError):
            raise retry_later(too_slow, "the database stopped this query at its time limit") from error
        if isinstance(error, asyncpg.UndefinedTableError):
            # The generation was retired after the request had looked it up.
            self._generation_gone()
            raise unavailable("the read tables were just replaced; ask again") from error
        if means_later(error):
            raise DatabaseUnavailableError(describe(error)) from error
