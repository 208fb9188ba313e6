"""Which generation of each projection is read, and how fresh it is: followed once a second and at every notification.

A request takes one `View` and uses it throughout. Its `as_of` was read before the request's rows are, so it never
claims more than they show; and it costs no query of the request's own. A generation that takes over has passed every
position of the one before it, so nobody reads backwards in time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import asyncpg
import structlog

from chassis.database import DatabaseUnavailableError, describe
from chassis.health import NotReadyError
from chassis.lifecycle import wait_for_event
from chassis.problems import unavailable
from query_api.connections import Connections, Statement
from read_model.generations import SCHEMAS

log = structlog.get_logger("serving")

#: As-Of may be this old, and a switch that nobody announced is noticed this late.
POLL_SECONDS: Final = 1.0
#: Two small tables; whatever takes longer is a database in trouble.
_READ_SECONDS: Final = 2.0
#: Before a projection has certified anything, nothing is certain since the beginning of time.
_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)

_VIEWS_SQL: Final = """
SELECT g.projection, g.generation, g.shape,
       CASE WHEN count(*) = count(c.seen_until) THEN min(c.seen_until) END AS seen_until
FROM generations g LEFT JOIN checkpoints c USING (projection, generation)
WHERE g.status = 'serving'
GROUP BY g.projection, g.generation, g.shape
"""


def rfc3339(time: datetime) -> str:
    """RFC 3339, UTC, microseconds, `Z`: the one written form of a time."""
    return time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class View:
    """One projection as it is served now."""

    generation: int
    #: Version of the tables and documents; part of the ETag.
    shape: int
    #: The time up to which everything that happened is in this generation, for the As-Of header.
    as_of: bytes


class Serving:
    """Follows the serving generations; ask `view` at the start of a request."""

    def __init__(self, connections: Connections) -> None:
        """Know nothing yet; `follow` begins."""
        self._connections = connections
        self._views: Mapping[str, View] = {}
        self._trouble = "the generations have not been read yet"
        self._changed = asyncio.Event()

    def view(self, projection: str) -> View:
        """The generation to read.

        Raises:
            Problem: 503, none is known: the database is down since the start, not migrated, or of another version.
        """
        view = self._views.get(projection)
        if view is None:
            raise unavailable(f"{projection} cannot be read yet: {self._trouble or 'no generation serves it'}")
        return view

    def as_of(self, projection: str) -> bytes | None:
        """How fresh the projection is, if it can be read at all."""
        view = self._views.get(projection)
        return view.as_of if view else None

    def changed(self) -> None:
        """Look again at once."""
        self._changed.set()

    async def check(self) -> None:
        """Readiness: every projection has a serving generation that this version can read.

        Raises:
            NotReadyError: one has not.
        """
        for schema in SCHEMAS.values():
            view = self._views.get(schema.projection)
            if view is None:
                raise NotReadyError(self._trouble or f"no generation of {schema.projection} serves")
            if view.shape != schema.shape:
                raise NotReadyError(
                    f"{schema.projection} serves shape {view.shape}, this version reads {schema.shape}:"
                    f" run `muster rebuild {schema.projection}`"
                )

    @asynccontextmanager
    async def follow(self) -> AsyncIterator[None]:
        """Follow until the block ends."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _follow(self) -> None:
        while True:
            self._changed.clear()
            await self._refresh()
            await self._fill_pool()
            await wait_for_event(self._changed, POLL_SECONDS)

    async def _fill_pool(self) -> None:
        """Open what is missing at the start and after an outage, before the requests need it."""
        try:
            await self._connections.fill()
        except DatabaseUnavailableError as error:
            # Nothing is lost yet: a request that finds no connection says so itself.
            log.debug("serving.pool_not_filled", reason=describe(error))

    async def _refresh(self) -> None:
        try:
            rows = await self._connections.fetch(Statement(_VIEWS_SQL, (), _READ_SECONDS))
        except DatabaseUnavailableError as error:
            self._note_trouble(describe(error))
        except asyncpg.UndefinedTableError:
            self._note_trouble("the query database is not migrated: run `muster migrate query`")
        except asyncpg.PostgresError as error:
            # Whatever else the server refuses (rights, say) is the operator's to mend, while this process stays.
            self._note_trouble(describe(error))
        else:
            self._note_trouble("")
            self._views = {row["projection"]: _view(row) for row in rows}

    def _note_trouble(self, trouble: str) -> None:
        # Once per change: an outage of an hour is not worth 3,600 lines.
        if trouble and trouble != self._trouble:
            log.warning("serving.unreadable", reason=trouble)
        elif self._trouble and not trouble:
            log.info("serving.readable")
        self._trouble = trouble


def _view(row: asyncpg.Record) -> View:
    return View(row["generation"], row["shape"], rfc3339(row["seen_until"] or _NEVER).encode("ascii"))
