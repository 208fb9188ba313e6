"""The generation of each projection that is read, and how fresh it is: read anew each second and at each notification.

A request takes one `View` and uses it throughout. The view's `as_of` was read before the request's rows, so it never
claims more than they show, and it costs the request no query of its own. A generation that takes over has passed every
position of the one before it, so nobody reads backwards in time.

A process reads only generations of the shape that its code knows. After one of another shape has taken over, it goes on
with the newest of its own shape that stands by, which the projectors of its own version still feed. So processes of two
versions answer side by side while one replaces the other, also after a rollback. A process is ready for as long as the
generation that it reads is fed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import asyncpg
import structlog

from chassis.clock import rfc3339, utc_now
from chassis.http.health import NotReadyError
from chassis.http.problems import unavailable
from chassis.lifecycle import end_task, wait_for_event
from chassis.outages import Outage
from chassis.postgres.database import DatabaseUnavailableError, describe
from query_api.reading.database import FetchedRows, ReadDatabase, ReadStatement
from read_model.catalogue import SCHEMAS
from read_model.schema import ProjectionSchema

log = structlog.get_logger("serving")

#: As-Of may be this old, and a switch that nobody announced is noticed this late.
POLL_SECONDS: Final = 1.0
#: Two small tables; whatever takes longer is a database in trouble.
_READ_SECONDS: Final = 2.0
#: A generation that is fed notes every second how far it has seen. One that stands by is taken as no longer fed when
#: its note is older than this.
STANDBY_SECONDS: Final = 10.0
#: The As-Of of a projection that has noted nothing yet.
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)

# For each projection the serving generation first, then those that stand by, the one that served last first.
_VIEWS_SQL: Final = """
SELECT g.projection, g.generation, g.shape, g.status = 'serving' AS serves,
       CASE WHEN count(*) = count(c.seen_until) THEN least(min(c.seen_until), now()) END AS seen_until
FROM generations g LEFT JOIN checkpoints c USING (projection, generation)
WHERE g.status IN ('serving', 'standby')
GROUP BY g.projection, g.generation, g.shape, g.status, g.changed_at
ORDER BY serves DESC, g.changed_at DESC
"""


@dataclass(frozen=True, slots=True)
class View:
    """One projection as it is served now."""

    generation: int
    #: Version of the tables and documents; part of the ETag.
    shape: int
    #: True of the serving generation; false where one of another shape serves.
    serves: bool
    seen_until: datetime
    #: The time up to which everything that happened is in this generation, for the As-Of header.
    as_of: bytes


class Serving:
    """Follows the serving generations; ask `view` at the start of a request."""

    def __init__(self, database: ReadDatabase) -> None:
        """Nothing is read before `follow`."""
        self._database = database
        self._views: Mapping[str, View] = {}
        #: The shapes that serve, also those that the code does not know.
        self._shapes: Mapping[str, int] = {}
        self._outage = Outage(log, "serving.unreadable", "serving.readable")
        self._outage.reason = "the generations have not been read yet"
        self._changed = asyncio.Event()

    def view(self, projection: str) -> View:
        """The generation to read.

        Raises:
            Problem: 503, none is known: the database is down since the start, not migrated, or of another version.
        """
        view = self._views.get(projection)
        if view is None:
            # Why names hosts and roles: that is for the log and the inner port.
            raise unavailable(f"{projection} cannot be read now")
        return view

    def as_of(self, projection: str) -> bytes | None:
        """The time up to which the projection is fresh; None where it cannot be read."""
        view = self._views.get(projection)
        return view.as_of if view else None

    def changed(self) -> None:
        """Read the generations again at once."""
        self._changed.set()

    async def check(self) -> None:
        """Readiness: every projection has a generation that this version can read and that somebody feeds.

        Raises:
            NotReadyError: a projection has none.
        """
        for schema in SCHEMAS.values():
            view = self._views.get(schema.name)
            if view is None:
                raise NotReadyError(self._why_unreadable(schema))
            age = (utc_now() - view.seen_until).total_seconds()
            if not view.serves and age > STANDBY_SECONDS:
                raise NotReadyError(
                    f"another version has taken over {schema.name}, and generation {view.generation}, which this"
                    " one reads, is fed no more: replace this process"
                )

    def _why_unreadable(self, schema: ProjectionSchema) -> str:
        shape = self._shapes.get(schema.name)
        if self._outage.reason or shape is None:
            return self._outage.reason or f"no generation of {schema.name} serves"
        what = f"{schema.name} serves shape {shape}, this version reads {schema.shape}"
        if shape > schema.shape:
            return f"{what}: a newer version has taken over, replace this process"
        return f"{what}: run `muster rebuild {schema.name}` from this version"

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[None]:
        """Follow until the block ends."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            await end_task(task)

    async def _follow(self) -> None:
        while True:
            self._changed.clear()
            await self._refresh()
            await self._fill_pool()
            await wait_for_event(self._changed, POLL_SECONDS)

    async def _fill_pool(self) -> None:
        """Open the connections that are missing, at the start and after an outage, before requests need them."""
        try:
            await self._database.fill()
        except DatabaseUnavailableError as error:
            # Nothing is lost yet: a request that finds no connection says so itself.
            log.debug("serving.pool_not_filled", reason=describe(error))

    async def _refresh(self) -> None:
        try:
            rows = await self._database.fetch(ReadStatement(_VIEWS_SQL, (), _READ_SECONDS))
        except DatabaseUnavailableError as error:
            self._outage.failed(describe(error))
        except asyncpg.UndefinedTableError:
            self._outage.failed("the query database is not migrated: run `muster migrate query`")
        except asyncpg.PostgresError as error:
            # The operator can mend whatever else the server refuses (missing rights, say) while this process goes on.
            self._outage.failed(describe(error))
        else:
            self._outage.over()
            self._shapes = {row["projection"]: row["shape"] for row in rows if row["serves"]}
            self._views = _views(rows)


def _views(rows: FetchedRows) -> Mapping[str, View]:
    views: dict[str, View] = {}
    for row in rows:
        projection, seen = row["projection"], row["seen_until"] or _NEVER
        if projection in SCHEMAS and row["shape"] == SCHEMAS[projection].shape:
            as_of = rfc3339(seen).encode("ascii")
            views.setdefault(projection, View(row["generation"], row["shape"], row["serves"], seen, as_of))
    return views
