"""Statements on the query database: bounded in time, and every failure turned into what the client can do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from chassis.database import Database, DatabaseUnavailableError
from chassis.problems import ProblemType, unavailable
from query_api.problems import TOO_EXPENSIVE, retry_later
from query_api.serving import Serving

#: A server that enforces its own limit answers by then; one that does not is down.
_GRACE_SECONDS: Final = 1.0

Rows = Sequence[asyncpg.Record]


class Reader:
    """Runs one statement on one connection at a time."""

    def __init__(self, database: Database, serving: Serving, *, statement_ms: int) -> None:
        """The pool's connections carry `statement_ms` as their statement_timeout; here it bounds the wait for it."""
        self._database = database
        self._serving = serving
        self._seconds = statement_ms / 1000 + _GRACE_SECONDS

    async def fetch(self, sql: str, arguments: Sequence[Any], *, plan_each_time: bool = False) -> Rows:
        """The rows.

        Raises:
            Problem: 503, `query-too-expensive` past the statement's time limit.
            DatabaseUnavailableError: no connection, or it failed.
        """
        try:
            async with self._database.connection() as connection:
                if plan_each_time:
                    # A nameless statement is parsed and planned for these very values: one round trip more than a kept
                    # one, whose general plan was up to 100 times slower where two indexes compete.
                    prepared = await connection.prepare(sql, name="", timeout=self._seconds)
                    return await prepared.fetch(*arguments, timeout=self._seconds)
                return await connection.fetch(sql, *arguments, timeout=self._seconds)
        except DatabaseUnavailableError as error:
            raise _explained(error, TOO_EXPENSIVE) from error
        except asyncpg.UndefinedTableError as error:
            raise self._generation_gone() from error

    async def count(self, sql: str, arguments: Sequence[Any], *, limit_ms: int, too_slow: ProblemType) -> int:
        """One number, within a time limit of its own.

        Raises:
            Problem: 503 `too_slow` past the limit.
            DatabaseUnavailableError: no connection, or it failed.
        """
        seconds = limit_ms / 1000 + _GRACE_SECONDS
        try:
            async with self._database.connection() as connection, connection.transaction(readonly=True):
                await connection.execute(f"SET LOCAL statement_timeout = {limit_ms:d}", timeout=seconds)
                number: int = await connection.fetchval(sql, *arguments, timeout=seconds)
                return number
        except DatabaseUnavailableError as error:
            raise _explained(error, too_slow) from error
        except asyncpg.UndefinedTableError as error:
            raise self._generation_gone() from error

    def _generation_gone(self) -> Exception:
        """The generation was retired between our looking it up and reading it; the next request sees the new one."""
        self._serving.changed()
        return unavailable("the read tables were just replaced; ask again")


def _explained(error: DatabaseUnavailableError, too_slow: ProblemType) -> Exception:
    if isinstance(error.__cause__, asyncpg.QueryCanceledError):
        return retry_later(too_slow, "the database stopped this query at its time limit")
    return error
