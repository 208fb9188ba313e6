"""Whether every read table has become what a fold of the stream says, whatever happened on the way."""

from chassis.postgres.database import Database
from projectors.operations import parked
from projectors.operations.lag import measure
from projectors.projections.catalogue import PROJECTIONS
from projectors.settings import ProjectorSettings
from tests.integration.projectors.folds import CONTENTS, FOLDS, changes_of
from tests.integration.projectors.stream import FakeRecord
from tests.waiting import until


async def tables_equal_the_fold(settings: ProjectorSettings, database: Database, stream: list[FakeRecord]) -> None:
    async def caught_up() -> bool:
        return all(one.records == 0 for one in await measure(settings, database))

    await until(caught_up, within=60, what="every projection to have read everything")
    changes = changes_of(stream)
    for name in PROJECTIONS:
        async with database.connection() as connection:
            assert await CONTENTS[name](connection) == FOLDS[name](changes), name
    assert await parked.summaries(database) == []


async def positions(database: Database) -> int:
    async with database.connection() as connection:
        total = await connection.fetchval("SELECT coalesce(sum(position), 0) FROM checkpoints")
    return int(total)
