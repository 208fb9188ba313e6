"""Everything that one process opens for its queries, and the queries themselves, each handed what it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import ClassVar, Final, Protocol

import structlog

from chassis.clock import utc_now
from chassis.outages import Outage
from chassis.postgres.listening import Callback, Listener
from query_api.protocol.cursors import CursorSeal
from query_api.protocol.exchange import QueryAnswer, QueryExchange
from query_api.protocol.parameters import Parameters
from query_api.reading.consistency import ConsistentReads
from query_api.reading.database import ReadDatabase, limits
from query_api.reading.reader import Reader
from query_api.reading.serving import Serving
from query_api.reading.versions import read_reached
from query_api.reading.waiters import Waiters
from query_api.settings import QueryApiSettings
from query_api.users.detail import UserDetail
from query_api.users.digest import UserDigest
from query_api.users.listing import UserList
from query_api.users.search import UserSearch
from query_api.users.signups import Signups
from query_api.users.timeline import UserTimeline
from read_model import generations
from read_model.catalogue import SCHEMAS

log = structlog.get_logger("notifications")

APPLICATION: Final = "muster-query-api"


class Query(Protocol):
    """One route: where it is, what it reads, and how it answers."""

    path: ClassVar[str]
    method: ClassVar[str]
    projection: ClassVar[str]
    parameters: ClassVar[Parameters]

    async def answer(self, exchange: QueryExchange) -> QueryAnswer:
        """Answer one request."""


@dataclass(frozen=True, slots=True)
class _Machinery:
    """The parts that queries are made of."""

    consistent: ConsistentReads
    reader: Reader
    seal: CursorSeal
    settings: QueryApiSettings
    now: Callable[[], datetime]


def _listing(made: _Machinery) -> UserList:
    return UserList(made.consistent, made.reader, made.seal, count_ms=made.settings.query_count_ms)


#: Every query, and how it is made; the most frequent first, since routes are tried in order.
QUERIES: Final[dict[type[Query], Callable[[_Machinery], Query]]] = {
    UserList: _listing,
    UserSearch: lambda made: UserSearch(_listing(made)),
    # Ahead of the detail, which would take `digest` for an id.
    UserDigest: lambda made: UserDigest(made.consistent, made.reader, digest_ms=made.settings.query_digest_ms),
    UserDetail: lambda made: UserDetail(made.consistent, made.reader),
    UserTimeline: lambda made: UserTimeline(made.consistent, made.reader, made.seal),
    Signups: lambda made: Signups(made.consistent, made.reader, now=made.now),
}


@dataclass(frozen=True, slots=True)
class QueryResources:
    """Everything that the HTTP side of one process works with."""

    reader: Reader
    serving: Serving
    waiters: Waiters
    queries: Mapping[type[Query], Query]


@asynccontextmanager
async def open_resources(
    settings: QueryApiSettings, *, now: Callable[[], datetime] = utc_now
) -> AsyncIterator[QueryResources]:
    """Open them; this succeeds while the database is down, and they work as soon as it is up."""
    address = settings.query_database
    async with AsyncExitStack() as stack:
        limit_ms = settings.query_statement_ms
        database = await stack.enter_async_context(
            ReadDatabase.open(address, application=APPLICATION, **limits(limit_ms))
        )
        serving = Serving(database)
        reader = Reader(database, statement_ms=limit_ms, generation_gone=serving.changed)
        waiters = await stack.enter_async_context(
            Waiters.open(
                partial(read_reached, reader, serving),
                limit=settings.query_waiters,
                notified=lambda: listener.connected,
            )
        )
        listener = Listener(
            address,
            _callbacks(serving, waiters),
            application=f"{APPLICATION}-listener",
            outage=Outage(log, "notifications.interrupted", "notifications.resumed"),
        )
        await stack.enter_async_context(listener.listen())
        await stack.enter_async_context(serving.follow())
        made = _Machinery(
            ConsistentReads(serving, waiters), reader, CursorSeal(settings.cursor_key_ring), settings, now
        )
        yield QueryResources(reader, serving, waiters, {query: make(made) for query, make in QUERIES.items()})


def _callbacks(serving: Serving, waiters: Waiters) -> dict[str, Callback]:
    return {
        generations.CHANNEL: lambda _: serving.changed(),
        **{schema.channel: partial(waiters.notify, schema.name) for schema in SCHEMAS.values()},
    }
