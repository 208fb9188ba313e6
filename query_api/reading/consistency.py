"""Read-your-writes: answer only from what has reached the versions that the client's tokens name.

The check is part of the statement that reads (or of the batch, which is one statement): what was checked is what is
shown. Where it fails, the request waits without a connection until the projection has moved, and looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from uuid import UUID

from chassis.consistency import ConsistencyToken, InvalidTokenError
from chassis.http.api import malformed_header
from chassis.http.problems import Problem
from chassis.lifecycle import end_task, wait_for_event
from query_api.protocol.exchange import Exchange
from query_api.protocol.problems import NOT_YET_VISIBLE, retry_later
from query_api.reading.waiters import Arrivals, Waiter

#: Tokens a list takes: a page's worth of one's own recent commands, not a way to check a whole table.
MOST_TOKENS: Final = 20
HEADER: Final = b"consistency-token"

#: The least version of each user that is fresh enough.
Wanted = dict[UUID, int]
T = TypeVar("T")


class ClientLeftError(Exception):
    """The client closed the connection while its request waited."""


def wanted_versions(exchange: Exchange, *, most: int = MOST_TOKENS) -> Wanted:
    """What the Consistency-Token header asks for; nothing where it is absent.

    Raises:
        Problem: 400, a token is malformed or there are more than `most`.
    """
    if not exchange.has(HEADER):
        return {}
    texts = [text.strip() for text in exchange.header(HEADER).split(",")]
    if len(texts) > most:
        raise malformed_header("Consistency-Token", f"has {len(texts)} tokens; this route takes at most {most}")
    wanted: Wanted = {}
    for text in texts:
        try:
            token = ConsistencyToken.decode(text)
        except InvalidTokenError as error:
            detail = f"{error}; pass back what a command or a query answered"
            raise malformed_header("Consistency-Token", detail) from error
        wanted[token.subject_id] = max(token.version, wanted.get(token.subject_id, 0))
    return wanted


async def read_when_fresh(
    attempt: Callable[[], Awaitable[T | None]],
    *,
    wanted: Wanted,
    exchange: Exchange,
    arrivals: Arrivals,
    projection: str,
) -> T:
    """Attempt until it gives something: None means that the projection has not reached the wanted versions.

    Raises:
        Problem: 504, the client's wait is over; 503 `busy`, too many wait.
        ClientLeftError: nobody is there to be answered.
    """
    result = await attempt()
    if result is not None:
        return result
    deadline = asyncio.get_running_loop().time() + exchange.preferences.wait_seconds
    with arrivals.waiter(projection, wanted) as waiter:
        left = asyncio.ensure_future(exchange.client_left())
        left.add_done_callback(lambda _: waiter.moved.set())
        try:
            while True:
                waiter.moved.clear()
                # Looked at again after joining: what moved in between has notified nobody.
                result = await attempt()
                if result is not None:
                    return result
                await _next_move(waiter, left, deadline, exchange)
        finally:
            await end_task(left)


async def _next_move(waiter: Waiter, left: asyncio.Future[None], deadline: float, exchange: Exchange) -> None:
    remaining = deadline - asyncio.get_running_loop().time()
    if remaining <= 0:
        raise _not_yet_visible(exchange)
    await wait_for_event(waiter.moved, remaining)
    if left.done():
        left.result()
        raise ClientLeftError
    waiter.raise_failure()


def _not_yet_visible(exchange: Exchange) -> Exception:
    seconds = exchange.preferences.wait_seconds
    problem = retry_later(NOT_YET_VISIBLE, f"the read side did not reach the Consistency-Token within {seconds} s")
    applied = {name.decode(): value.decode() for name, value in exchange.applied(waited=True)}
    return Problem(problem.type, problem.detail, headers={**problem.headers, **applied})


def behind_sql(ids: str, versions: str, *tables: str) -> str:
    """SQL that is true while a wanted user has the wanted version, or a later one, in none of the tables."""
    missing = " AND ".join(
        f"NOT EXISTS (SELECT FROM {table} AS t WHERE t.id = wanted.id AND t.version >= wanted.version)"
        for table in tables
    )
    return f"EXISTS (SELECT FROM unnest({ids}::uuid[], {versions}::bigint[]) AS wanted (id, version) WHERE {missing})"
