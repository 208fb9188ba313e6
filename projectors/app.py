"""The projectors process: it reads topics, writes read tables, and tells its state on its health port."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Final

import structlog

from chassis.http.health import Health
from chassis.http.listening import serve_health
from chassis.postgres.database import ONE_PLAN, Connection, Database
from chassis.settings import PostgresAddress
from chassis.tracing.process import ProcessTracer, exporting
from projectors.fleet import Fleet
from projectors.projections.catalogue import PROJECTIONS
from projectors.settings import ProjectorSettings

log = structlog.get_logger("projectors")

#: A member that freezes between the messages of one statement, as while asyncpg prepares it, does not count as idle,
#: and no statement_timeout reaches it. This does (PostgreSQL 17 and later). Longer than the driver waits for a
#: statement.
TRANSACTION_TIMEOUT: Final = "20s"

#: `freeze_loaded_objects` is given as many as some batches have, which reference counting frees a moment later. The
#: collector walked through them several times a batch, a third of a rebuild's time. It still finds cycles, which only
#: errors leave.
YOUNG_OBJECTS: Final = 100_000


class UnknownProjectionError(Exception):
    """There is no projection of that name."""


def open_database(
    address: PostgresAddress, *, application: str, **server_settings: str
) -> AbstractAsyncContextManager[Database]:
    """Open the query database for feeding a generation."""
    return Database.open(address, application=application, init=_bound_transactions, seconds=None, **server_settings)


async def _bound_transactions(connection: Connection) -> None:
    await connection.execute(
        "SELECT set_config(name, $1, false) FROM pg_settings WHERE name = 'transaction_timeout'", TRANSACTION_TIMEOUT
    )


def refuse_unknown(names: Iterable[str]) -> None:
    """Raise UnknownProjectionError where a name is not in the catalogue."""
    unknown = sorted(set(names) - set(PROJECTIONS))
    if unknown:
        raise UnknownProjectionError(f"no projection is named {', '.join(unknown)}; there are {', '.join(PROJECTIONS)}")


async def serve(settings: ProjectorSettings, stopping: asyncio.Event, projections: list[str] | None = None) -> int:
    """Feed these projections (None: all) until `stopping` is set; a batch that has begun is finished.

    Starts, not ready, while Kafka or PostgreSQL is down, and recovers by itself from any outage.

    Returns:
        The exit code: 0 after `stopping`, 1 when a loop hangs and a new process is needed.

    Raises:
        UnknownProjectionError: a name is not in the catalogue.
        OSError: the health port is taken.
    """
    refuse_unknown(projections or ())
    async with open_database(settings.query_database, application="muster-projectors", **ONE_PLAN) as database:
        tracer = ProcessTracer.of(settings, "projectors")
        fleet = Fleet(settings, database, projections, tracer)
        health = Health(
            ready={"database": database.check, "projections": fleet.check_ready},
            live={"projections": fleet.check_live},
        )
        host, port = settings.projectors_http_host, settings.projectors_http_port
        async with exporting(tracer), serve_health(health, host=host, port=port, transport=settings):
            log.info("projectors.serving", port=settings.projectors_http_port)
            return await fleet.run(stopping)
