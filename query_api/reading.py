"""Statements on the query database: bounded in time, and every failure turned into what the client can do about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import asyncpg

from chassis.database import INFRASTRUCTURE_ERRORS, DatabaseUnavailableError, describe
from chassis.problems import ProblemType, unavailable
from query_api.connections import Connections
from query_api.problems import TOO_EXPENSIVE, retry_later

#: A server that enforces its own limit answers by then; one that does not is down.
_GRACE_SECONDS: Final = 1.0
#: Readiness asks for one row.
_CHECK_SECONDS: Final = 1.0

Rows = Sequence[asyncpg.Record]


class Reader:
    """Runs one statement on one connection at a time."""

    def __init__(self, connections: Connections, *, statement_ms: int, generation_gone: Callable[[], None]) -> None:
        """The connections carry `statement_ms` as their statement_timeout; here it bounds the wait for it.

        `generation_gone` is called when a statement names tables that are not there any more.
        """
        self._connections = connections
        self._seconds = statement_ms / 1000 + _GRACE_SECONDS
        self._generation_gone = generation_gone

    async def fetch(self, sql: str, arguments: Sequence[Any], *, plan_each_time: bool = False) -> Rows:
        """The rows.

        Raises:
            Problem: 503, `query-too-expensive` past the statement's time limit.
            DatabaseUnavailableError: no connection, or it failed.
        """
        try:
            return await self._connections.fetch(sql, arguments, seconds=self._seconds, plan_each_time=plan_each_time)
        except asyncpg.PostgresError as error:
            raise self._explained(error, TOO_EXPENSIVE) from error

    async def count(self, sql: str, arguments: Sequence[Any], *, limit_ms: int, too_slow: ProblemType) -> int:
        """One number, within a time limit of its own.

        Raises:
            Problem: 503 `too_slow` past the limit.
            DatabaseUnavailableError: no connection, or it failed.
        """
        try:
            rows = await self._connections.fetch_limited(sql, arguments, limit_ms=limit_ms)
        except asyncpg.PostgresError as error:
            raise self._explained(error, too_slow) from error
        return int(rows[0][0])

    async def check(self) -> None:
        """Ask the server for one row, for readiness.

        Raises:
            DatabaseUnavailableError: it did not answer.
        """
        await self._connections.fetch("SELECT 1", (), seconds=_CHECK_SECONDS)

    def _explained(self, error: asyncpg.PostgresError, too_slow: ProblemType) -> Exception:
        if isinstance(error, asyncpg.QueryCanceledError):
            return retry_later(too_slow, "the database stopped this query at its time limit")
        if isinstance(error, asyncpg.UndefinedTableError):
            # The generation was retired after the request had looked it up.
            self._generation_gone()
            return unavailable("the read tables were just replaced; ask again")
        if isinstance(error, INFRASTRUCTURE_ERRORS):
            return DatabaseUnavailableError(describe(error))
        return error
