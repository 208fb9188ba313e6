"""Read-your-writes: answer only from what has reached the versions that the client's tokens name.

The check is part of the statement that reads (or of its batch, which is one statement too), so what was checked is what
is shown. When the check fails, the request waits without a connection until the projection has moved, and reads again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from uuid import UUID

from chassis.consistency import ConsistencyToken, InvalidConsistencyTokenError
from chassis.http.problems import Problem, malformed_header
from chassis.lifecycle import end_task, wait_for_event
from chassis.tracing.spans import step
from query_api.protocol.exchange import CONSISTENCY_TOKEN, QueryExchange
from query_api.protocol.problems import NOT_YET_VISIBLE, retry_later
from query_api.reading.serving import Serving, View
from query_api.reading.versions import WantedVersions
from query_api.reading.waiters import Waiter, Waiters

#: Tokens that a request may send: a page's worth of one's own recent commands, not a way to check a whole table.
MOST_TOKENS: Final = 20

T = TypeVar("T")


class ClientLeftError(Exception):
    """The client closed the connection while its request waited."""


class ConsistentReads:
    """Reads of one process, each from the generation that serves and as fresh as its client wants."""

    def __init__(self, serving: Serving, waiters: Waiters) -> None:
        """Read the views of `serving`; wait among `waiters`."""
        self._serving = serving
        self._waiters = waiters

    async def read_when_fresh(
        self,
        exchange: QueryExchange,
        projection: str,
        attempt: Callable[[View, WantedVersions], Awaitable[T | None]],
    ) -> T:
        """Attempt until there is a result: None means that the projection has not reached the wanted versions.

        Raises:
            Problem: 400, a token is malformed or there are more than MOST_TOKENS; 504, the client's wait is over; 503,
                no generation can be read, or (`busy`) too many requests wait.
            ClientLeftError: the client has closed the connection.
        """
        wanted, notified = _wanted_versions(exchange), self._waiters.notifications(projection)
        result = await attempt(self._serving.view(projection), wanted)
        if result is not None:
            return result
        with step("wait for version", attributes={"muster.projection": projection}):
            return await self._wait(exchange, projection, wanted, attempt, notified)

    async def _wait(
        self,
        exchange: QueryExchange,
        projection: str,
        wanted: WantedVersions,
        attempt: Callable[[View, WantedVersions], Awaitable[T | None]],
        notified: int,
    ) -> T:
        """Wait and read again; `notified` is the count of notifications before the read that was too early."""
        deadline = asyncio.get_running_loop().time() + exchange.preferences.wait_seconds
        with self._waiters.waiter(projection, wanted) as waiter:
            exchange.leave_place()
            left = asyncio.ensure_future(exchange.client_left())
            left.add_done_callback(lambda _: waiter.moved.set())
            try:
                # A move between that read and joining has woken nobody.
                if self._waiters.notifications(projection) == notified:
                    await _next_move(waiter, left, deadline, exchange)
                while True:
                    waiter.moved.clear()
                    result = await attempt(self._serving.view(projection), wanted)
                    if result is not None:
                        return result
                    await _next_move(waiter, left, deadline, exchange)
            finally:
                await end_task(left)


def _wanted_versions(exchange: QueryExchange) -> WantedVersions:
    """The versions that the Consistency-Token header asks for; empty without the header."""
    if not exchange.has(CONSISTENCY_TOKEN):
        return {}
    texts = [text.strip() for text in exchange.header(CONSISTENCY_TOKEN).split(",")]
    if len(texts) > MOST_TOKENS:
        raise malformed_header("Consistency-Token", f"has {len(texts)} tokens; this route takes at most {MOST_TOKENS}")
    wanted: dict[UUID, int] = {}
    for text in texts:
        try:
            token = ConsistencyToken.decode(text)
        except InvalidConsistencyTokenError as error:
            detail = f"{error}; pass back what a command or a query answered"
            raise malformed_header("Consistency-Token", detail) from error
        if not exchange.access.sees(token.subject_id):
            # Otherwise 200 against 504 would tell who exists, and at which version.
            raise malformed_header("Consistency-Token", "is of another user; send those of your own alone")
        wanted[token.subject_id] = max(token.version, wanted.get(token.subject_id, 0))
    return wanted


async def _next_move(waiter: Waiter, left: asyncio.Future[None], deadline: float, exchange: QueryExchange) -> None:
    remaining = deadline - asyncio.get_running_loop().time()
    if remaining <= 0:
        raise _not_yet_visible(exchange)
    await wait_for_event(waiter.moved, remaining)
    if left.done():
        left.result()
        raise ClientLeftError
    waiter.raise_failure()


def _not_yet_visible(exchange: QueryExchange) -> Exception:
    seconds = exchange.preferences.wait_seconds
    problem = retry_later(NOT_YET_VISIBLE, f"the read side did not reach the Consistency-Token within {seconds} s")
    applied = {name.decode(): value.decode() for name, value in exchange.applied(waited=True)}
    return Problem(problem.type, problem.detail, headers={**problem.headers, **applied})
