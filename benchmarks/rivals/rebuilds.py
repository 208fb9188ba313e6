"""A rebuild of the users beside a projection of the library `eventsourcing`, both into an empty table."""

import asyncio
from typing import Final

from benchmarks.projections.run import publish, rebuild
from benchmarks.reporting.result import Result
from benchmarks.running.plan import Plan
from benchmarks.running.rounds import Sample, interleave
from benchmarks.running.servers import Servers, open_servers
from chassis.lifecycle import freeze_loaded_objects
from projectors.app import YOUNG_OBJECTS, open_database
from projectors.settings import ProjectorSettings

USERS: Final = 50_000
#: The rival commits each event, so it is given few; its rate is the same for many.
EVENTSOURCING_USERS: Final = 3_000
DATABASE: Final = "eventsourcing"


async def measure(plan: Plan, result: Result) -> None:
    """Rebuild in turns.

    Raises:
        ImportError: the library is not installed.
    """
    # Not everybody who imports this has it.
    from benchmarks.references.eventsourcing import users as rival  # noqa: PLC0415 - as above

    result.note(
        "Rebuilds: ours reads the registrations from Kafka, the projection of eventsourcing from its store in "
        f"PostgreSQL, each event and its position in one commit. It has {EVENTSOURCING_USERS:,}, ours {USERS:,}."
    )
    freeze_loaded_objects(YOUNG_OBJECTS)
    async with open_servers(plan) as servers:
        count = USERS // 50 if plan.quick else USERS
        few = EVENTSOURCING_USERS // 10 if plan.quick else EVENTSOURCING_USERS
        events = await publish(servers, count)
        await servers.postgres.create_database(DATABASE)
        settings = rival.environment(servers.postgres.address, DATABASE)
        await asyncio.to_thread(rival.fill, settings, few)

        async def ours() -> Sample:
            fresh = await servers.new_database("query")
            async with open_database(fresh.query, application="benchmark") as database:
                return Sample(events / await rebuild(fresh.settings(ProjectorSettings), database, "users"))

        async def theirs() -> Sample:
            await _drop(servers, rival.VIEW_TABLES)
            return Sample(few / await asyncio.to_thread(rival.rebuild, settings, few))

        probes = {"rebuild of users": ours, "eventsourcing, projection": theirs}
        rounds = await interleave(plan, probes, unit="events/s")
    result.table(rounds)
    subject, reference = probes
    result.observed("rebuild / eventsourcing", rounds.ratio(subject, reference))


async def _drop(servers: Servers, tables: tuple[str, ...]) -> None:
    await servers.postgres.execute(f"DROP TABLE IF EXISTS {', '.join(tables)}", database=DATABASE)
