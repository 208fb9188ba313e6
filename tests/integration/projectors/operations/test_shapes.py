"""A read table changes its shape: what the new generation takes over from the old one, and who feeds which."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
from sqlalchemy import Column, Text

from chassis.http.health import NotReadyError
from chassis.identifiers import new_id
from chassis.postgres.database import Connection, Database, session
from chassis.postgres.roles import OWNER
from chassis.settings import PostgresAddress
from events.user_events import PublicUser, UserErased, UserProfileChanged, UserRegistered
from projectors.decoding.records import DecodedEvent
from projectors.fleet import Fleet
from projectors.operations.rebuild import Rebuild, RebuildError, Stage
from projectors.projections import timeline
from projectors.projections.catalogue import PROJECTIONS
from projectors.projections.projection import CarryOver, Projection
from projectors.projections.timeline import TimelineWriter
from projectors.settings import ProjectorSettings
from read_model import generations
from read_model.catalogue import SCHEMAS
from read_model.timeline import TimelineTables, timeline_tables
from tests.databases import as_role
from tests.integration.projectors.conftest import running
from tests.integration.projectors.stream import START, Publisher, new_user, record
from tests.waiting import until

NAME = "timeline"
#: What shape 1 of the timeline did not keep, but for the time at which an entry is applied.
LATER = ("actor", "on_behalf_of", "partition", "record_offset", "committed_at", "published_at")
_CARRY = """
INSERT INTO {new} (user_id, version, document, type)
SELECT e.user_id, e.version, e.document, convert_from(e.document, 'UTF8')::json ->> 'type'
FROM {old} e JOIN {new}_users u ON u.id = e.user_id
WHERE e.user_id >= $1 AND ($2::uuid IS NULL OR e.user_id < $2) AND e.version > coalesce(u.erased_version, 0)
ON CONFLICT DO NOTHING
"""


def typed_tables(number: int) -> TimelineTables:
    """The next shape: each entry's type has a column of its own."""
    tables = timeline_tables(number)
    tables.entries.append_column(Column("type", Text, nullable=False, server_default=""))
    return tables


class TypedWriter(TimelineWriter):
    """Writes the next shape."""

    def __init__(self, generation: int) -> None:
        super().__init__(generation)
        self._name = f"timeline_g{generation}"

    async def apply(self, connection: Connection, events: Sequence[DecodedEvent]) -> None:
        await super().apply(connection, events)
        await connection.execute(
            f"UPDATE {self._name} SET type = convert_from(document, 'UTF8')::json ->> 'type' WHERE type = ''"
        )


def from_untyped(old: int, new: int) -> CarryOver:
    """What a change of shape declares: its own copy out of the tables of the old one."""
    return CarryOver(f"timeline_g{old}_users", [_CARRY.format(old=f"timeline_g{old}", new=f"timeline_g{new}")])


@pytest.fixture
def next_shape(monkeypatch: pytest.MonkeyPatch) -> Projection:
    """This process becomes one of a newer version, which knows how to take over from this one's shape."""
    schema = replace(timeline.PROJECTION.schema, shape=3, tables=typed_tables)
    projection = replace(
        timeline.PROJECTION, schema=schema, writer=TypedWriter, carry_over={2: from_untyped, 3: from_untyped}
    )
    monkeypatch.setitem(PROJECTIONS, NAME, projection)
    monkeypatch.setitem(SCHEMAS, NAME, schema)
    return projection


async def rebuild(
    settings: ProjectorSettings, database: Database, name: str = NAME, *, carry_over: bool = True
) -> Stage:
    work = Rebuild(settings, database, name, asyncio.Event(), lambda _: None)
    return await work.run(pause_before_switch=True, carry_over=carry_over)


async def history(database: Database) -> tuple[PublicUser, PublicUser]:
    """Two users of whom the topic has only the end: one exists, one is erased by now."""
    known, gone = new_user(1), new_user(2)
    async with database.connection() as connection:
        for user in (known, gone):
            await connection.execute("INSERT INTO timeline_g1_users VALUES ($1, 2)", user.id)
            for version, kind in ((1, "registered"), (2, "email_changed")):
                document = json.dumps({"version": version, "type": kind}).encode()
                await connection.execute("INSERT INTO timeline_g1 VALUES ($1, $2, $3)", user.id, version, document)
    return known, gone


async def test_a_generation_of_another_shape_takes_over_by_the_copy_that_the_change_declares(
    settings: ProjectorSettings, database: Database, publisher: Publisher, next_shape: Projection
) -> None:
    assert next_shape.shape == 3
    known, gone = await history(database)
    latest = known.model_copy(update={"version": 3, "display_name": "x"})
    await publisher.publish(
        [
            record(UserProfileChanged(user=latest, previous={"display_name": None})),
            record(UserErased(gone.id, 3)),
        ]
    )
    assert await rebuild(settings, database) is Stage.READY
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT user_id, version, type FROM timeline_g2 ORDER BY version")
    assert [tuple(row) for row in rows] == [
        (latest.id, 1, "registered"),
        (latest.id, 2, "email_changed"),
        (latest.id, 3, "profile_changed"),
    ]


async def test_what_a_timeline_of_shape_1_did_not_keep_is_null_in_what_is_taken_over(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    known, _ = await history(database)
    later = (*LATER, "applied_at")
    async with database.connection() as connection:
        await connection.execute(f"ALTER TABLE timeline_g1 {', '.join(f'DROP COLUMN {name}' for name in later)}")
        await connection.execute("UPDATE generations SET shape = 1 WHERE projection = $1", NAME)
    event = UserProfileChanged(user=known.model_copy(update={"version": 3}))
    await publisher.publish([record(event, actor="shop", on_behalf_of="clerk")])

    assert await rebuild(settings, database) is Stage.READY

    async with database.connection() as connection:
        rows = await connection.fetch("SELECT * FROM timeline_g2 ORDER BY version")
    assert [[row[name] is None for name in later] for row in rows] == [[True] * 7, [True] * 7, [False] * 7]
    assert json.loads(rows[0]["document"]) == {"version": 1, "type": "registered"}
    assert (rows[2]["actor"], rows[2]["on_behalf_of"]) == ("shop", "clerk")


async def test_what_a_timeline_of_this_shape_kept_is_taken_over_whole(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    known, _ = await history(database)
    async with database.connection() as connection:
        await connection.execute(
            "UPDATE timeline_g1 SET (actor, on_behalf_of, partition, record_offset, committed_at, published_at,"
            " applied_at) = ('shop', 'clerk', 1, 4711, '2026-11-01', '2026-11-02', '2026-11-03') WHERE version = 2"
        )
        before = await connection.fetch("SELECT * FROM timeline_g1 WHERE user_id = $1 ORDER BY version", known.id)
    await publisher.publish([record(UserProfileChanged(user=known.model_copy(update={"version": 3})))])

    assert await rebuild(settings, database) is Stage.READY

    async with database.connection() as connection:
        after = await connection.fetch("SELECT * FROM timeline_g2 WHERE version < 3 ORDER BY version")
    assert list(map(tuple, after)) == list(map(tuple, before))


async def test_what_is_kept_of_an_erasure_says_when_and_where_it_is_and_is_taken_over(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    """Of one erasure the first record counts: compaction may have left a later one alone."""
    ann, bob = new_user(1), new_user(2)
    await publisher.publish([record(UserRegistered(user=ann)), record(UserErased(ann.id, 2), now=START)])
    assert await rebuild(settings, database, "users") is Stage.READY
    async with database.connection() as connection:
        row = await connection.fetchrow("SELECT * FROM users_g2_erased")
        assert row is not None
        assert (row["id"], row["version"], row["erased_at"], row["topic"]) == (ann.id, 2, START, publisher.topic)
        assert row["record_offset"] == 1
        assert row["topic_id"] == await connection.fetchval("SELECT topic_id FROM checkpoints LIMIT 1")
        assert row["published_at"] > row["erased_at"]
        await connection.execute("INSERT INTO users_g1_erased SELECT * FROM users_g2_erased")
        await connection.execute("UPDATE users_g1_erased SET record_offset = 0")
        await connection.execute(
            "INSERT INTO users_g1_erased (id, version, erased_at, topic, partition, record_offset)"
            " VALUES ($1, 7, '2026-11-01', 'an older topic', 3, 4711)",
            bob.id,
        )
        before = await connection.fetch("SELECT * FROM users_g1_erased ORDER BY id")
        [_, building] = await generations.read(connection, "users")
        await generations.retire(connection, building)

    assert await rebuild(settings, database, "users") is Stage.READY

    async with database.connection() as connection:
        after = await connection.fetch("SELECT * FROM users_g3_erased ORDER BY id")
    assert list(map(tuple, after)) == list(map(tuple, before))


async def test_what_a_shape_before_3_did_not_keep_of_an_erasure_is_null_where_it_is_taken_over(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    ann, bob = new_user(1), new_user(2)
    await publisher.publish([record(UserErased(ann.id, 2))])
    later = ("erased_at", "topic", "topic_id", "partition", "record_offset", "published_at")
    async with database.connection() as connection:
        await connection.execute(f"ALTER TABLE users_g1_erased {', '.join(f'DROP COLUMN {name}' for name in later)}")
        await connection.execute("UPDATE generations SET shape = 2 WHERE projection = 'users'")
        await connection.executemany("INSERT INTO users_g1_erased VALUES ($1, 2)", [(ann.id,), (bob.id,)])

    assert await rebuild(settings, database, "users") is Stage.READY

    async with database.connection() as connection:
        rows = {row["id"]: row for row in await connection.fetch("SELECT * FROM users_g2_erased")}
    assert [[rows[user.id][name] is None for name in later] for user in (ann, bob)] == [[False] * 6, [True] * 6]


async def test_entries_of_a_user_whose_record_is_parked_come_along(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    """They exist, though nothing of theirs could be applied yet: once it is, the entries are there."""
    known, gone = await history(database)
    await publisher.publish([record(UserProfileChanged(user=known.model_copy(update={"version": 3})))])
    broken = record(UserProfileChanged(user=gone.model_copy(update={"version": 4})))
    broken = type(broken)(broken.key, b"{", broken.headers)
    await publisher.publish([broken])
    assert await rebuild(settings, database) is Stage.READY
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM parked_records WHERE generation = 2") == 1
        rows = await connection.fetch("SELECT version FROM timeline_g2 WHERE user_id = $1", gone.id)
    assert sorted(row["version"] for row in rows) == [1, 2]


async def test_a_rebuild_beside_a_shape_it_does_not_know_is_refused_unless_the_loss_is_accepted(
    settings: ProjectorSettings, database: Database
) -> None:
    async with database.connection() as connection:
        await connection.execute("UPDATE generations SET shape = 7 WHERE projection = $1", NAME)
    with pytest.raises(RebuildError, match="--without-carry-over"):
        await rebuild(settings, database)
    async with database.connection() as connection:
        assert len(await generations.read(connection, NAME)) == 1
    assert await rebuild(settings, database, carry_over=False) is Stage.READY


async def test_a_rebuild_that_is_stopped_while_it_carries_over_does_not_switch(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    await history(database)
    await publisher.publish([record(UserErased(new_id(), 3))])
    stopping = asyncio.Event()
    work = Rebuild(settings, database, NAME, stopping, lambda _: None)
    original = work._index

    async def index(generation: generations.Generation) -> bool:
        # After the last look at the log: from here on there is nothing but the carry-over.
        work._replay = _at_the_end(stopping)  # type: ignore[method-assign,assignment]
        return await original(generation)

    work._index = index  # type: ignore[method-assign]
    assert await work.run(pause_before_switch=False) is Stage.STOPPED
    async with database.connection() as connection:
        assert [one.status for one in await generations.read(connection, NAME)] == ["serving", "building"]


def _at_the_end(stopping: asyncio.Event) -> Callable[..., Awaitable[bool]]:
    async def replay(*_: object) -> bool:
        stopping.set()
        return True

    return replay


async def test_a_retired_generation_of_another_shape_leaves_none_of_the_tables_that_only_it_had(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generations, "FOLLOWED_SECONDS", 0)
    async with database.connection() as connection:
        await add_foreign_tables(connection)
        await connection.execute("UPDATE generations SET shape = 0, status = 'standby' WHERE projection = $1", NAME)
        [old] = await generations.read(connection, NAME)
        await generations.retire(connection, old)
        assert await tables_like(connection, "timeline%") == ["timeline_g10"]
        assert await tables_like(connection, "users%") == ["users_g1", "users_g1_erased"]


async def test_going_back_to_before_generations_leaves_none_of_their_tables(query_database: PostgresAddress) -> None:
    async with session(as_role(query_database, OWNER), application="tests") as connection:
        await add_foreign_tables(connection)
        await connection.execute("DROP TABLE timeline_g10")
        await generations.drop_all(connection)
        assert not await tables_like(connection, "%\\_g%")


async def add_foreign_tables(connection: Connection) -> None:
    """Tables of generation 1 that this version of the code knows nothing of, and one of another generation."""
    await connection.execute("CREATE TABLE timeline_g1_notes (user_id uuid REFERENCES timeline_g1_users)")
    await connection.execute('CREATE TABLE "timeline_g1_Odd name" (id int)')
    await connection.execute("CREATE TABLE timeline_g10 (id int)")


async def tables_like(connection: Connection, pattern: str) -> list[str]:
    rows = await connection.fetch(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename LIKE $1 ORDER BY 1", pattern
    )
    return [row["tablename"] for row in rows]


@pytest.mark.parametrize(("shape", "remedy"), [(0, "run `muster rebuild timeline`"), (3, "newer version")])
async def test_projectors_that_do_not_know_the_serving_shape_say_what_to_do(
    settings: ProjectorSettings, database: Database, shape: int, remedy: str
) -> None:
    async with database.connection() as connection:
        await connection.execute("UPDATE generations SET shape = $2 WHERE projection = $1", NAME, shape)
    fleet = Fleet(settings, database, [NAME])

    async def says() -> bool:
        try:
            await fleet.check_ready()
        except NotReadyError as error:
            return remedy in str(error)
        return False

    async with running(fleet.run):
        await until(says, within=10, what=remedy)


@pytest.mark.parametrize("name", sorted(PROJECTIONS))
def test_every_shape_there_has_been_is_taken_over_from_or_expressly_not(name: str) -> None:
    projection = PROJECTIONS[name]
    assert set(projection.carry_over) >= set(range(1, projection.shape + 1))
    assert projection.carry_over[projection.shape] is not None
