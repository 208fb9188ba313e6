"""The projectors process: reads the topic, writes the read tables, and says how it is on its health port."""

from __future__ import annotations

import asyncio

import structlog

from chassis.database import Database
from chassis.health import Health, serve_health
from projectors.catalogue import PROJECTIONS
from projectors.fleet import Fleet
from projectors.settings import ProjectorSettings

log = structlog.get_logger("projectors")


class UnknownProjectionError(Exception):
    """There is no projection of that name."""


async def serve(settings: ProjectorSettings, stopping: asyncio.Event, projections: list[str] | None = None) -> int:
    """Feed these projections (None: all) until `stopping` is set; a batch that has begun is finished.

    Starts, not ready, while Kafka or PostgreSQL is down, and recovers by itself from any outage.

    Returns:
        The exit code: 0 after `stopping`, 1 when a loop hangs and a new process is needed.

    Raises:
        UnknownProjectionError: a name is not in the catalogue.
        OSError: the health port is taken.
    """
    unknown = sorted(set(projections or ()) - set(PROJECTIONS))
    if unknown:
        raise UnknownProjectionError(f"no projection is named {', '.join(unknown)}; there are {', '.join(PROJECTIONS)}")
    async with Database.open(settings.query_database, application="muster-projectors") as database:
        fleet = Fleet(settings, database, projections)
        health = Health(
            ready={"database": database.check, "projections": fleet.check_ready},
            live={"projections": fleet.check_live},
        )
        async with serve_health(health, host=settings.projectors_http_host, port=settings.projectors_http_port):
            log.info("projectors.serving", port=settings.projectors_http_port)
            return await fleet.run(stopping)
