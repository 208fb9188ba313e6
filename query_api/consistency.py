"""Read-your-writes: answer only from what has reached the versions that the client's tokens name.

The check is part of the statement that reads (or of the batch, which is one statement): what was checked is what is
shown. Where it fails, the request waits without a connection until the projection has moved, and looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeVar
from uuid import UUID

from chassis.consistency import ConsistencyToken, InvalidTokenError
from chassis.http_api import malformed_header
from chassis.problems import Problem
from query_api.arrivals import Arrivals
from query_api.exchange import Exchange
from query_api.problems import NOT_YET_VISIBLE, retry_later

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
    loop = asyncio.get_running_loop()
    deadline = loop.time() + exchange.preferences.wait_seconds
    left = asyncio.ensure_future(exchange.client_left())
    try:
        with arrivals.waiter(projection, wanted) as moved:
            while True:
                moved.clear()
                # Looked at again after joining: what moved in between has notified nobody.
                result = await attempt()
                if result is not None:
                    return result
                remaining = deadline - loop.time()
                if remaining <= 0:
                    raise _not_yet_visible(exchange)
                await _next_move(moved, left, min(remaining, arrivals.poll_seconds))
    finally:
        left.cancel()
        with suppress(asyncio.CancelledError):
            await left


async def _next_move(moved: asyncio.Event, left: asyncio.Future[None], seconds: float) -> None:
    moving = asyncio.ensure_future(moved.wait())
    either: set[asyncio.Future[Any]] = {moving, left}
    try:
        await asyncio.wait(either, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        moving.cancel()
    if left.done():
        left.result()
        raise ClientLeftError


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
