"""Every projection ends up the same however often, in whatever portions, and by whomever the stream is applied."""

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.postgres.database import ONE_PLAN, Connection, Database
from chassis.postgres.roles import PROJECTORS
from chassis.settings import PostgresAddress
from events.user_events import UserEmailChanged, UserRegistered
from projectors.app import open_database
from projectors.consumer import checkpoints
from projectors.consumer.batches import BatchWriter, DecodedBatch
from projectors.consumer.checkpoints import CheckpointMovedError, Move
from projectors.decoding.slices import SliceDecoder
from projectors.operations import parked
from projectors.projections.catalogue import PROJECTIONS
from projectors.projections.user_subject import USERS
from read_model import generations
from read_model.generations import Generation
from tests.databases import as_role
from tests.integration.projectors.folds import CONTENTS, FOLDS, Contents, changes_of
from tests.integration.projectors.stream import START, FakeRecord, Life, lives, new_user, record
from tests.waiting import until

TOPIC = "users.events"
NAMES = sorted(PROJECTIONS)
#: Rows that this transaction has read by reading whole tables, but the one of the days' sums.
READ = """
SELECT sum(seq_tup_read)::int FROM pg_stat_xact_user_tables WHERE relname = ANY($1) AND relname <> 'signups_g1'
"""


TOPIC_ID = UUID(int=7)


class Member:
    """One member of the group, which knows the checkpoints it last read or wrote, as a feed does."""

    def __init__(self, database: Database, name: str) -> None:
        self.database = database
        self.generation = Generation(name, 1, PROJECTIONS[name].shape, "serving")
        self.writer = BatchWriter(database, PROJECTIONS[name], self.generation, TOPIC)
        self.assignment: dict[int, int] = {}

    async def place(self, partitions: Sequence[int]) -> None:
        async with self.database.connection() as connection:
            starts = dict.fromkeys(partitions, 0)
            found = await checkpoints.read(connection, self.generation, TOPIC, starts, TOPIC_ID)
        self.assignment = {partition: checkpoint.position for partition, checkpoint in found.items()}

    async def apply(self, records: Sequence[FakeRecord]) -> None:
        """Apply what is not behind the checkpoint; nothing where a checkpoint has moved."""
        new = [record for record in records if record.offset >= self.assignment[record.partition]]
        ends = {record.partition: record.offset + 1 for record in new}
        moves = [Move(partition, self.assignment[partition], end, None) for partition, end in sorted(ends.items())]
        if moves:
            await self.writer.write(DecodedBatch(SliceDecoder(USERS).read(new), moves))
            self.assignment |= ends


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


async def test_a_batch_reads_no_table_from_end_to_end(database: Database, name: str) -> None:
    """Whatever PostgreSQL knows of the tables: a rebuild's have never been analysed, and its plans are kept."""
    writer = PROJECTIONS[name].writer(1)
    users = [new_user(number) for number in range(8000)]
    changed = [user.model_copy(update={"version": 2, "email": "new@example.com"}) for user in users]
    async with database.connection() as connection:
        for start in range(0, 6000, 1000):
            registered = [record(UserRegistered(user=user)) for user in users[start : start + 1000]]
            await writer.apply(connection, changes_of(registered))
            # Such as come next: some new, some changed.
            coming = [record(UserRegistered(user=user)) for user in users[start + 1000 : start + 2000]]
            coming += [record(UserEmailChanged(user=user)) for user in changed[start : start + 1000]]
            tried = connection.transaction()
            await tried.start()
            await writer.apply(connection, changes_of(coming))
            assert await connection.fetchval(READ, generations.tables_of(name, 1).tables.keys()) == 0
            await tried.rollback()


async def test_a_live_feed_has_one_plan_for_all_batches_whatever_the_size_of_its_tables(
    query_database: PostgresAddress, name: str
) -> None:
    stream = lives(3, 30, seed=7)
    address = replace(as_role(query_database, PROJECTORS), pool_size=1, max_overflow=0)
    async with open_database(address, application="test", **ONE_PLAN) as feeding:
        member = Member(feeding, name)
        await member.place([0, 1, 2])
        for number in range(len(stream)):
            await member.apply(stream[number : number + 1])
        async with feeding.connection() as connection:
            tables = list(generations.tables_of(name, 1).tables)
            # From now on it is known that they are tiny.
            await connection.execute(f"ANALYZE {', '.join(tables)}")
            async with connection.transaction():
                await PROJECTIONS[name].writer(1).apply(connection, changes_of(lives(9, 9, seed=8)))
                assert await connection.fetchval(READ, tables) == 0
            planned = await connection.fetchval("SELECT sum(custom_plans)::int FROM pg_prepared_statements")
    assert planned == 0


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


async def test_counters_that_members_share_are_taken_in_the_order_of_days(database: Database) -> None:
    """So that members wait for each other, but never in a circle: who waits for the first day holds no other."""
    days = random.Random(6).sample(range(30), 30)
    first, second = (
        changes_of([record(UserRegistered(user=new_user(day, now=START + timedelta(days=day)))) for day in days])
        for _ in range(2)
    )
    writer = PROJECTIONS["signups"].writer(1)
    async with database.connection() as connection:
        await writer.apply(connection, first)
    async with database.connection() as holder, database.connection() as member, holder.transaction():
        await holder.execute("SELECT FROM signups_g1 ORDER BY day LIMIT 1 FOR UPDATE")
        applying = asyncio.create_task(writer.apply(member, second))
        await until(lambda: waits_for_a_lock(holder), within=10, what="the member to wait for the first day")
        free = await holder.fetch("SELECT FROM signups_g1 FOR UPDATE SKIP LOCKED")
    await applying
    assert len(free) == len(days)


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


async def test_a_batch_of_users_that_exist_is_one_statement(query_database: PostgresAddress) -> None:
    sent: list[str] = []

    async def note_statements(connection: Connection) -> None:
        connection.add_query_logger(lambda query: sent.append(query.query))

    async with Database.open(query_database, application="tests", init=note_statements) as database:
        member = Member(database, "users")
        await member.place([0])
        await member.apply([registered(1), registered(2)])
        assert await position(database) == 3
        assert len((await contents(database, "users"))["users"]) == 2
    writing = [query for query in sent if any(word in query for word in ("BEGIN", "INSERT", "UPDATE"))]
    placing = max(number for number, query in enumerate(writing) if "INSERT INTO checkpoints" in query)
    assert len(writing[placing + 1 :]) == 1, "one behind the placing"


async def test_a_batch_goes_on_where_its_checkpoint_was_only_held(database: Database) -> None:
    member = Member(database, "users")
    await member.place([0])
    async with held_up(database, member.apply([registered(1)])) as holder:
        await holder.execute("UPDATE checkpoints SET seen_until = now() WHERE partition = 0")
    assert len((await contents(database, "users"))["users"]) == 1
    assert await position(database) == 2


async def test_a_batch_writes_nothing_where_its_checkpoint_moved_while_it_waited(database: Database) -> None:
    member = Member(database, "users")
    await member.place([0])
    with pytest.raises(CheckpointMovedError):
        async with held_up(database, member.apply([registered(1)])) as holder:
            await holder.execute("UPDATE checkpoints SET position = 1 WHERE partition = 0")
    assert (await contents(database, "users"))["users"] == {}
    assert await position(database) == 1


async def test_a_batch_that_waited_for_a_retry_sees_what_the_retry_did(database: Database) -> None:
    life = Life.begin(1, random.Random(1))
    while len(life.records) < 3:
        life.step()
    first, second, third = (replace(item, offset=offset) for offset, item in enumerate(life.records))
    member = Member(database, "users")
    await member.place([0])
    await member.apply([first, replace(second, value=b"{")])
    # One that has not yet met what is parked.
    another = Member(database, "users")
    await another.place([0])
    async with held_up(database, another.apply([third])) as holder:
        await holder.execute("DELETE FROM parked_records")
        await PROJECTIONS["users"].writer(1).apply(holder, changes_of([second]))
    assert await contents(database, "users") == FOLDS["users"](changes_of([first, second, third]))
    assert await parked.summaries(database) == []


@asynccontextmanager
async def held_up(database: Database, writing: Coroutine[Any, Any, None]) -> AsyncIterator[Connection]:
    """Something waits to write while the block, in a transaction, has the checkpoints; both have ended afterwards."""
    async with database.connection() as connection:
        async with connection.transaction():
            await connection.execute("SELECT FROM checkpoints FOR UPDATE")
            task = asyncio.ensure_future(writing)
            await until(lambda: waits_for_a_lock(connection), within=10, what="the batch at the lock")
            yield connection
        await task


async def waits_for_a_lock(connection: Connection) -> bool:
    return bool(await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


def registered(offset: int) -> FakeRecord:
    return replace(record(UserRegistered(user=new_user(offset))), offset=offset)


async def position(database: Database) -> int:
    async with database.connection() as connection:
        return int(await connection.fetchval("SELECT position FROM checkpoints WHERE partition = 0"))
