"""`muster repair` writes users as the command side has them, for every generation and every rebuild to come."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from chassis.postgres.database import Connection, Database
from cli.operations.repair import RAISED_TOGETHER
from events.user_events import PublicUser, UserErased, UserProfileChanged, UserRegistered, UserSnapshot
from projectors.app import serve
from projectors.consumer import checkpoints
from projectors.decoding.records import header
from projectors.operations import parked
from projectors.operations.lag import measure
from projectors.operations.rebuild import Rebuild, Stage
from projectors.operations.repair import Place, heal
from projectors.projections.projection import PresentState
from projectors.projections.users import UsersWriter
from projectors.settings import ProjectorSettings
from read_model import generations
from tests.envelopes import envelope_of
from tests.integration.muster_processes import muster
from tests.integration.projectors.conftest import running
from tests.integration.projectors.consumer.test_effectively_once import TOPIC, TOPIC_ID, held_up
from tests.integration.projectors.consumer.test_suspicious import applied, from_elsewhere, on_a_log
from tests.integration.projectors.folds import changes_of
from tests.integration.projectors.operations.test_audit import in_command
from tests.integration.projectors.operations.test_commands import document
from tests.integration.projectors.stream import START, FakeRecord, Publisher, new_user, record
from tests.waiting import until

AT_5 = Place(TOPIC_ID, 0, 5)


def at(user: PublicUser, version: int, **changes: Any) -> PublicUser:
    return user.model_copy(update={"version": version, **changes})


def changed(user: PublicUser) -> FakeRecord:
    return record(UserProfileChanged(user=user, previous={"display_name": None}))


async def relay(command: Database, publisher: Publisher) -> None:
    """Publish what waits in the outbox."""
    async with command.connection() as connection:
        rows = await connection.fetch("SELECT * FROM outbox ORDER BY id")
        if rows:
            await publisher.publish(
                FakeRecord(str(row["subject_id"]).encode(), row["value"], envelope_of(row["headers"]).headers())
                for row in rows
            )
            await connection.execute("DELETE FROM outbox WHERE id = ANY($1)", [row["id"] for row in rows])


@asynccontextmanager
async def fed(settings: ProjectorSettings, database: Database) -> AsyncIterator[None]:
    """The projectors run, and have read everything when the block begins."""
    async with running(partial(serve, settings)):
        await caught_up(settings, database)
        yield


async def caught_up(settings: ProjectorSettings, database: Database) -> None:
    async def at_the_end() -> bool:
        found = await measure(settings, database)
        return all(one.records == 0 and one.seconds is not None for one in found)

    await until(at_the_end, within=60, what="everything to be read")


async def shown(database: Database, generation: int = 1) -> dict[UUID, int]:
    async with database.connection() as connection:
        return {row["id"]: row["version"] for row in await connection.fetch(f"SELECT * FROM users_g{generation}")}


async def write_to_command(command: Database, user: PublicUser) -> None:
    async with command.connection() as connection:
        await connection.execute("DELETE FROM users WHERE id = $1", user.id)
    await in_command(command, [user])


async def test_a_repaired_user_is_as_the_command_side_says_in_every_generation_and_every_rebuild(
    settings: ProjectorSettings, database: Database, command: Database, publisher: Publisher, variables: dict[str, str]
) -> None:
    ann, bob, invented = new_user(1), new_user(2), new_user(3)
    # A snapshot of ours by its looks, which no rule finds out, and what only a stranger knows of.
    stolen = record(UserSnapshot(user=at(ann, 10**9, email="evil@example.com")))
    parked_too = record(UserErased(bob.id, 10**9))
    await publisher.publish([record(UserRegistered(user=user)) for user in (ann, bob)])
    second = changed(at(ann, 2))
    await publisher.publish([stolen, parked_too, record(UserRegistered(user=invented)), second])
    await in_command(command, [at(ann, 2), bob])
    async with command.connection() as connection:
        event_id = UUID(header(second, "ce_id"))
        await connection.execute("UPDATE users SET event_id = $1 WHERE id = $2", event_id, ann.id)
    async with fed(settings, database):
        before = document(await muster(variables, "audit", "--json"), code=1)
        assert {one["id"]: one["kind"] for one in before["users"]} == {str(ann.id): "ahead", str(invented.id): "ahead"}
        assert (await muster(variables, "repair", str(new_user(9).id))).code == 1

        done = await muster(variables, "repair", str(ann.id), str(bob.id), str(invented.id))
        assert done.code == 0, done.err
        assert document(await muster(variables, "audit", "--json"))["users"] == []
        assert await shown(database) == {ann.id: 2, bob.id: 1}
        assert await parked.summaries(database) == []

        await relay(command, publisher)
        await publisher.publish([changed(at(ann, 3, display_name="Ann"))])
        await write_to_command(command, at(ann, 3, display_name="Ann"))
        await caught_up(settings, database)
        assert document(await muster(variables, "audit", "--json"))["users"] == []
        rebuild = Rebuild(settings, database, "users", asyncio.Event(), lambda _: None)
        assert await rebuild.run(pause_before_switch=True) is Stage.READY
    assert await shown(database, 2) == {ann.id: 3, bob.id: 1}
    assert await parked.summaries(database) == []
    async with database.connection() as connection:
        counters = await connection.fetchrow("SELECT sum(active) AS active, sum(deactivated) AS off FROM signups_g1")
        entries = await connection.fetch("SELECT version FROM timeline_g1 WHERE user_id = $1 ORDER BY 1", ann.id)
    assert counters is not None
    assert (counters["active"], counters["off"]) == (2, 0)
    assert [row["version"] for row in entries] == [1, 2, 3]


async def test_without_a_topic_nobody_is_repaired_until_it_is_made(
    command: Database, variables: dict[str, str]
) -> None:
    ann = new_user(1)
    await in_command(command, [ann])
    variables["EVENTS_TOPIC"] = f"{variables['EVENTS_TOPIC']}.anew"
    refused = await muster(variables, "repair", str(ann.id))
    assert (refused.code, "there is no topic" in refused.err) == (1, True)
    [make] = re.findall(r"`muster ([^`]+)`", refused.err)
    assert (await muster(variables, *make.split())).code == 0
    assert (await muster(variables, "repair", str(ann.id))).code == 0


async def test_a_stranger_who_names_an_id_does_not_have_it_given_up(
    settings: ProjectorSettings, database: Database, command: Database, publisher: Publisher, variables: dict[str, str]
) -> None:
    ann, to_come = new_user(1), new_user(2)
    ours, forged = record(UserRegistered(user=ann)), from_elsewhere(record(UserRegistered(user=to_come)))
    await publisher.publish([ours, forged])
    await in_command(command, [ann])
    async with fed(settings, database):
        done = await muster(variables, "repair", str(to_come.id), str(ann.id))
        assert (done.code, str(ann.id) in done.out) == (1, True), "the others are repaired"
        assert f"neither side knows a user {to_come.id}" in done.err
        [discard] = re.findall(r"`muster ([^`]+)`", done.err)
        assert (await muster(variables, *discard.split())).code == 0
        assert await parked.summaries(database) == []
    async with command.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM erased_users") == 0, "an import may bring them"


@pytest.mark.parametrize("repaired", [True, False], ids=["with the repair", "without"])
async def test_a_user_whom_the_read_side_has_further_is_erased(
    settings: ProjectorSettings, database: Database, command: Database, publisher: Publisher,
    variables: dict[str, str], *, repaired: bool,
) -> None:  # fmt: skip
    ann, gone, late = new_user(1), new_user(2), new_user(3)
    await publisher.publish([record(UserRegistered(user=user)) for user in (ann, gone, late)])
    await publisher.publish([changed(at(ann, 2)), changed(at(ann, 3)), record(UserErased(gone.id, 2))])
    # The backup knew ann as she was, gone before the erasure, and nothing of late.
    await in_command(command, [ann, gone])
    version = 1
    async with fed(settings, database):
        if repaired:
            left = document(await muster(variables, "repair", "--ahead", "--json"), code=1)
            assert left == {"raised": 1, "erase_again": [str(gone.id)], "only_read_side": [str(late.id)], "repair": []}
            await relay(command, publisher)
            await caught_up(settings, database)
            version = (await shown(database))[ann.id]
            assert version == 4
            assert gone.id not in await shown(database), "who was erased does not come back"
        await publisher.publish([record(UserErased(ann.id, version + 1))])
        await until(partial(is_gone, database, ann.id), within=30, what="the erasure")
        await caught_up(settings, database)
    async with database.connection() as connection:
        left_behind = await connection.fetchval("SELECT version FROM users_g1_erased WHERE id = $1", ann.id)
        assert await connection.fetchval("SELECT count(*) FROM timeline_g1 WHERE user_id = $1", ann.id) == 0
    assert left_behind == (5 if repaired else 3)


async def test_versions_of_many_are_raised_some_at_a_time(
    database: Database, command: Database, variables: dict[str, str]
) -> None:
    users = [new_user(number) for number in range(RAISED_TOGETHER + 1)]
    await in_command(command, users)
    async with database.connection() as connection:
        await UsersWriter(1).apply(connection, changes_of([changed(at(user, 2)) for user in users]))
    done = document(await muster(variables, "repair", "--ahead", "--json"))
    assert done == {"raised": len(users), "erase_again": [], "only_read_side": [], "repair": []}
    async with command.connection() as connection:
        raised = await connection.fetchval("SELECT count(*) FROM users WHERE version = 3")
        transactions = await connection.fetchval("SELECT count(DISTINCT xmin::text) FROM users")
        published = await connection.fetchval("SELECT count(DISTINCT subject_id) FROM outbox")
    assert (raised, published, transactions) == (len(users), len(users), 2)


async def test_a_feed_that_is_behind_leaves_out_what_does_not_count(database: Database) -> None:
    ann = new_user(1)
    member = await applied(database, "users", on_a_log(record(UserRegistered(user=ann)), changed(at(ann, 2))), 5)
    ours = PresentState(ann.id, 1, None)
    await heal(database, ours, ann, AT_5, START)
    await member.apply([replace(changed(at(ann, 2)), offset=3)])
    assert await shown(database) == {ann.id: 1}
    # One that waited for the repair's lock has begun to read before it.
    async with held_up(database, member.apply([replace(changed(at(ann, 2)), offset=7)])) as holder:
        await holder.execute("UPDATE checkpoints SET repaired_until = 9")
        await holder.execute("UPDATE repaired_users SET position = 9")
    assert await shown(database) == {ann.id: 1}
    await member.apply([replace(changed(at(ann, 2)), offset=9)])
    assert await shown(database) == {ann.id: 2}


async def test_a_generation_that_begins_beside_a_repair_leaves_out_what_does_not_count(database: Database) -> None:
    ann = new_user(1)
    await applied(database, "users", on_a_log(record(UserRegistered(user=ann)), changed(at(ann, 2))), 5)
    async with database.connection() as connection:
        second, _ = await generations.begin(connection, "users")

    async def begin() -> None:
        async with database.connection() as connection:
            await checkpoints.read(connection, second, TOPIC, {0: 0}, TOPIC_ID)

    async with database.connection() as holder:
        async with holder.transaction():
            # The repair waits here, behind its marks and before its commit.
            await holder.execute("LOCK TABLE users_g1_erased IN SHARE MODE")
            repairing = asyncio.create_task(heal(database, PresentState(ann.id, 1, None), ann, AT_5, START))
            await until(partial(waiting, holder, 1), within=10, what="the repair at the lock")
            beginning = asyncio.create_task(begin())
            await until(partial(waits_or_ended, holder, beginning), within=10, what="the checkpoint")
        await asyncio.gather(repairing, beginning)
        assert await holder.fetchval("SELECT repaired_until FROM checkpoints WHERE generation = 2") == AT_5.position


async def test_a_checkpoint_from_before_that_adopts_the_topic_leaves_out_what_does_not_count(
    database: Database,
) -> None:
    ann = new_user(1)
    await applied(database, "users", on_a_log(record(UserRegistered(user=ann))), 5)
    await heal(database, PresentState(ann.id, 1, None), ann, AT_5, START)
    async with database.connection() as connection:
        await connection.execute("UPDATE checkpoints SET topic_id = NULL, repaired_until = NULL")
        serving = await generations.serving(connection, "users")
        await checkpoints.read(connection, serving, TOPIC, {0: 0}, TOPIC_ID)
        assert await connection.fetchval("SELECT repaired_until FROM checkpoints") == AT_5.position


async def waiting(connection: Connection, number: int) -> bool:
    return bool(await connection.fetchval("SELECT count(*) = $1 FROM pg_locks WHERE NOT granted", number))


async def waits_or_ended(connection: Connection, task: asyncio.Task[None]) -> bool:
    return task.done() or await waiting(connection, 2)


async def test_a_repair_of_the_erased_keeps_what_a_receipt_says(database: Database) -> None:
    ann = new_user(1)
    await applied(database, "users", on_a_log(record(UserRegistered(user=ann)), record(UserErased(ann.id, 2))), 5)

    async def kept() -> list[tuple[int, int | None]]:
        async with database.connection() as connection:
            rows = await connection.fetch("SELECT version, record_offset FROM users_g1_erased")
        return [(row["version"], row["record_offset"]) for row in rows]

    said = []
    # An erasure of another version is another, and whom the command side has alive was never erased.
    for version, user in ((2, None), (3, None), (3, at(ann, 3))):
        state = PresentState(ann.id, version, None, is_erased=user is None)
        await heal(database, state, user, AT_5, START)
        said.append(await kept())

    assert said == [[(2, 1)], [(3, None)], []]


async def is_gone(database: Database, user_id: UUID) -> bool:
    return user_id not in await shown(database)
