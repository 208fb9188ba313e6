"""What a query works with: opened once per process by the app's lifespan, handed to every query."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final

import structlog

from chassis.clock import utc_now
from chassis.outages import Outage
from chassis.postgres.listening import Callback, Listener
from query_api.protocol.cursors import CursorSeal
from query_api.reading.database import ReadDatabase
from query_api.reading.looks import Looks
from query_api.reading.reader import Reader
from query_api.reading.serving import Serving
from query_api.reading.waiters import Arrivals
from query_api.settings import QueryApiSettings
from query_api.users.detail_reads import UserReads
from query_api.users.page_reads import PageReads
from read_model import generations, signups, timeline, users

log = structlog.get_logger("notifications")

APPLICATION: Final = "muster-query-api"


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything a query may use."""

    settings: QueryApiSettings
    reader: Reader
    serving: Serving
    arrivals: Arrivals
    user_reads: UserReads
    page_reads: PageReads
    cursors: CursorSeal
    now: Callable[[], datetime]


@asynccontextmanager
async def open_resources(
    settings: QueryApiSettings, *, now: Callable[[], datetime] = utc_now
) -> AsyncIterator[Resources]:
    """Open them; succeeds while the database is down, and works as soon as it is there."""
    address = settings.query_database
    async with AsyncExitStack() as stack:
        limit_ms = settings.query_statement_ms
        database = await stack.enter_async_context(
            ReadDatabase.open(address, application=APPLICATION, statement_timeout=str(limit_ms))
        )
        serving = Serving(database)
        reader = Reader(database, statement_ms=limit_ms, generation_gone=serving.changed)
        arrivals = await stack.enter_async_context(
            Arrivals.open(Looks(reader, serving).look, limit=settings.query_waiters, hearing=lambda: listener.connected)
        )
        listener = Listener(
            address,
            _callbacks(serving, arrivals),
            application=f"{APPLICATION}-listener",
            outage=Outage(log, "notifications.interrupted", "notifications.resumed"),
        )
        await stack.enter_async_context(listener.listen())
        await stack.enter_async_context(serving.follow())
        cursors = CursorSeal(settings.cursor_key_ring)
        yield Resources(
            settings=settings,
            reader=reader,
            serving=serving,
            arrivals=arrivals,
            user_reads=UserReads(reader),
            page_reads=PageReads(reader, cursors),
            cursors=cursors,
            now=now,
        )


def _callbacks(serving: Serving, arrivals: Arrivals) -> dict[str, Callback]:
    return {
        generations.CHANNEL: lambda _: serving.changed(),
        **{
            projection.CHANNEL: partial(arrivals.moved, projection.PROJECTION)
            for projection in (users, timeline, signups)
        },
    }
