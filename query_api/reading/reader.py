"""Statements on the query database: bounded in time, and every failure turned into what the client can do about it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

import asyncpg

from chassis.http.problems import ProblemType, unavailable
from chassis.postgres.database import INFRASTRUCTURE_ERRORS, DatabaseUnavailableError, describe
from query_api.protocol.problems import TOO_EXPENSIVE, retry_later
from query_api.reading.database import ReadDatabase, Statement

#: A server that enforces its own limit answers by then; one that does not is down.
_GRACE_SECONDS: Final = 1.0
#: Readiness asks for one row.
_CHECK_SECONDS: Final = 1.0

Rows = Sequence[asyncpg.Record]
T = TypeVar("T")


class _LeftError(Exception):
    """Whoever sent the statement was cancelled; those who joined it have no rows and ask themselves."""


class Reader:
    """Runs one statement on one connection at a time."""

    def __init__(self, database: ReadDatabase, *, statement_ms: int, generation_gone: Callable[[], None]) -> None:
        """The connections carry `statement_ms` as their statement_timeout; here it bounds the wait for it.

        `generation_gone` is called when a statement names tables that are not there any more.
        """
        self._database = database
        self._seconds = statement_ms / 1000 + _GRACE_SECONDS
        self._generation_gone = generation_gone
        #: Who waits for the rows of each statement that queues, beside whoever sends it.
        self._queued: dict[Hashable, list[asyncio.Future[Any]]] = {}

    async def fetch(self, sql: str, arguments: Sequence[Any], *, plan_each_time: bool = False) -> Rows:
        """The rows, as `fetch_as` finds them."""
        return await self.fetch_as(_as_they_are, sql, arguments, plan_each_time=plan_each_time)

    async def fetch_as(
        self, understand: Callable[[Rows], T], sql: str, arguments: Sequence[Any], *, plan_each_time: bool = False
    ) -> T:
        """What `understand` makes of the rows; it may look at nothing but them and what the statement says.

        While statements queue for a connection, one that says the same as one in the queue is not queued beside it but
        gets what that one gives: it was asked before that one is sent, so it is as fresh as its own would be. A first
        page that everybody asks for at once is then read and put together a few times, not once each.

        Raises:
            Problem: 503, `query-too-expensive` past the statement's time limit.
            DatabaseUnavailableError: no connection, or it failed.
        """
        try:
            if self._database.is_crowded:
                return await self._fetch_shared(understand, sql, arguments, plan_each_time=plan_each_time)
            return understand(await self._database.fetch(Statement(sql, arguments, self._seconds, plan_each_time)))
        except asyncpg.PostgresError as error:
            self._explain(error, TOO_EXPENSIVE)
            raise

    async def _fetch_shared(
        self, understand: Callable[[Rows], T], sql: str, arguments: Sequence[Any], *, plan_each_time: bool
    ) -> T:
        key = (sql, *(tuple(value) if isinstance(value, list | set) else value for value in arguments))
        while (others := self._queued.get(key)) is not None:
            mine: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            others.append(mine)
            with suppress(_LeftError):
                return await mine
        others = self._queued[key] = []
        statement = Statement(sql, arguments, self._seconds, plan_each_time, partial(self._close, key, others))
        try:
            understood = understand(await self._database.fetch(statement))
        except BaseException as error:
            self._close(key, others)
            _fail(others, error if isinstance(error, Exception) else _LeftError())
            raise
        for one in others:
            if not one.done():
                one.set_result(understood)
        return understood

    def _close(self, key: Hashable, others: list[asyncio.Future[Any]]) -> None:
        """Nobody joins these any more: the statement is about to be sent, or never will be."""
        if self._queued.get(key) is others:
            del self._queued[key]

    async def count(self, sql: str, arguments: Sequence[Any], *, limit_ms: int, too_slow: ProblemType) -> int:
        """One number, within a time limit of its own.

        Raises:
            Problem: 503 `too_slow` past the limit.
            DatabaseUnavailableError: no connection, or it failed.
        """
        try:
            rows = await self._database.fetch_limited(sql, arguments, limit_ms=limit_ms)
        except asyncpg.PostgresError as error:
            self._explain(error, too_slow)
            raise
        return int(rows[0][0])

    async def check(self) -> None:
        """Ask the server for one row, for readiness.

        Raises:
            DatabaseUnavailableError: it did not answer.
        """
        await self._database.fetch(Statement("SELECT 1", (), _CHECK_SECONDS))

    def _explain(self, error: asyncpg.PostgresError, too_slow: ProblemType) -> None:
        """Raise what the client can do about it; return where it is our own mistake."""
        if isinstance(error, asyncpg.QueryCanceledError):
            raise retry_later(too_slow, "the database stopped this query at its time limit") from error
        if isinstance(error, asyncpg.UndefinedTableError):
            # The generation was retired after the request had looked it up.
            self._generation_gone()
            raise unavailable("the read tables were just replaced; ask again") from error
        if isinstance(error, INFRASTRUCTURE_ERRORS):
            raise DatabaseUnavailableError(describe(error)) from error


def _as_they_are(rows: Rows) -> Rows:
    return rows


def _fail(waiting: Iterable[asyncio.Future[Any]], error: Exception) -> None:
    for one in waiting:
        if not one.done():
            one.set_exception(error)
