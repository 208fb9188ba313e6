"""Every projection ends up the same however often, in whatever portions, and by whomever the stream is applied."""

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.database import Database
from projectors.catalogue import PROJECTIONS
from projectors.consumer import checkpoints
from projectors.consumer.batches import Batch, BatchWriter
from projectors.consumer.checkpoints import CheckpointMovedError, Move
from read_model import generations
from read_model.generations import Generation
from tests.integration.projectors.folds import CONTENTS, FOLDS, Contents, changes_of
from tests.integration.projectors.stream import FakeRecord, lives

TOPIC = "users.events"
NAMES = sorted(PROJECTIONS)


class Member:
    """One member of the group, which knows the checkpoints it last read or wrote, as a feed does."""

    def __init__(self, database: Database, name: str) -> None:
        self.database = database
        self.generation = Generation(name, 1, PROJECTIONS[name].shape, "serving")
        self.writer = BatchWriter(database, PROJECTIONS[name], self.generation, TOPIC)
        self.places: dict[int, int] = {}

    async def place(self, partitions: Sequence[int]) -> None:
        async with self.database.connection() as connection:
            found = await checkpoints.read(connection, self.generation, TOPIC, partitions)
        self.places = {partition: checkpoint.position for partition, checkpoint in found.items()}

    async def apply(self, records: Sequence[FakeRecord]) -> None:
        """Apply what is not behind the checkpoint; nothing where a checkpoint has moved."""
        new = [record for record in records if record.offset >= self.places[record.partition]]
        ends = {record.partition: record.offset + 1 for record in new}
        moves = [Move(partition, self.places[partition], end, None) for partition, end in sorted(ends.items())]
        if moves:
            await self.writer.write(await Batch.of(new, moves))
            self.places |= ends


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def contents(database: Database, name: str) -> Contents:
    async with database.connection() as connection:
        return await CONTENTS[name](connection)


async def clear(database: Database, name: str) -> None:
    async with database.connection() as connection:
        for table in generations.tables_of(name, 1).tables:
            await connection.execute(f"TRUNCATE {table}")
        await connection.execute("DELETE FROM checkpoints WHERE projection = $1", name)


async def rewind(database: Database, name: str) -> None:
    """What a restored, older checkpoint does."""
    async with database.connection() as connection:
        await connection.execute("UPDATE checkpoints SET position = 0 WHERE projection = $1", name)


async def test_one_batch_gives_what_a_naive_fold_gives(database: Database, name: str) -> None:
    stream = lives(40, 200, seed=1)
    member = Member(database, name)
    await member.place([0, 1, 2])
    await member.apply(stream)
    assert await contents(database, name) == FOLDS[name](changes_of(stream))


async def test_random_portions_with_a_restart_after_each_change_nothing(database: Database, name: str) -> None:
    stream = lives(30, 150, seed=2)
    rng = random.Random(2)
    cuts = sorted({0, len(stream), *(rng.randrange(len(stream)) for _ in range(40))})
    for start, end in pairwise(cuts):
        member = Member(database, name)
        await member.place([0, 1, 2])
        # A restarted consumer may be given records again from anywhere before.
        await member.apply(stream[rng.randrange(start + 1) : end])
    assert await contents(database, name) == FOLDS[name](changes_of(stream))


async def test_a_replay_from_zero_over_full_tables_writes_no_row(database: Database, name: str) -> None:
    stream = lives(30, 150, seed=3)
    member = Member(database, name)
    await member.place([0, 1, 2])
    await member.apply(stream)
    before = await contents(database, name)
    async with database.connection() as connection:
        written = {table: await row_versions(connection, table) for table in generations.tables_of(name, 1).tables}
    await rewind(database, name)
    await member.place([0, 1, 2])
    for start in range(0, len(stream), 7):
        await member.apply(stream[start : start + 7])
    async with database.connection() as connection:
        for table, rows in written.items():
            assert await row_versions(connection, table) == rows, f"{table} was written"
    assert await contents(database, name) == before


async def row_versions(connection: generations.Connection, table: str) -> list[tuple[object, ...]]:
    """Where each row is and who wrote it: unchanged means untouched."""
    return sorted(
        tuple(row) for row in await connection.fetch(f"SELECT ctid::text, xmin::text, xmax::text FROM {table}")
    )


async def test_reversed_delivery_ends_in_the_same_tables(database: Database, name: str) -> None:
    stream = changes_of(lives(20, 100, seed=4))
    writer = PROJECTIONS[name].writer(1)
    async with database.connection() as connection:
        for change in reversed(stream):
            await writer.apply(connection, [change])
    assert await contents(database, name) == FOLDS[name](stream)


async def test_of_two_owners_of_a_partition_one_commits(database: Database, name: str) -> None:
    stream = lives(20, 60, seed=5)
    first, second = Member(database, name), Member(database, name)
    await first.place([0, 1, 2])
    await second.place([0, 1, 2])
    await first.apply(stream[:50])
    with pytest.raises(CheckpointMovedError):
        await second.apply(stream)
    await first.apply(stream)
    assert await contents(database, name) == FOLDS[name](changes_of(stream))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    stream=st.builds(lives, users=st.integers(1, 12), steps=st.integers(0, 60), seed=st.integers(0, 2**32)),
    portion=st.integers(1, 50),
)
async def test_any_life_in_any_portions_gives_what_a_naive_fold_gives(
    database: Database, name: str, stream: list[FakeRecord], portion: int
) -> None:
    await clear(database, name)
    member = Member(database, name)
    await member.place([0, 1, 2])
    for start in range(0, len(stream), portion):
        # Each portion begins with the end of the one before, as after a restart.
        await member.apply(stream[max(0, start - 3) : start + portion])
    assert await contents(database, name) == FOLDS[name](changes_of(stream))
