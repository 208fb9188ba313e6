"""Rows of the outbox that an operator sets aside, puts back or drops, and what an erasure does to them."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import UUID

import httpx
import pytest

from chassis.postgres.database import connect, disconnect
from chassis.postgres.roles import OPERATOR
from chassis.settings import PostgresAddress
from command_api import damaged_rows
from command_api.damaged_rows import RowRefusedError
from command_api.republication import Operation, append_present, snapshot
from command_api.users.rows import public_user
from outbox.set_aside import FORGET_HELD_BACK
from tests.databases import as_role
from tests.envelopes import envelope_of
from tests.integration.command_api.conftest import Connection, register
from tests.waiting import until

OPERATION = Operation("cli:ann")


@pytest.fixture
async def operator(command_database: PostgresAddress) -> AsyncIterator[Any]:
    """An operator's session on the command database."""
    connection = await connect(as_role(command_database, OPERATOR), application="test")
    yield connection
    await disconnect(connection)


async def rows_of(database: Connection, user: dict[str, Any]) -> list[Any]:
    """The user's rows in the outbox."""
    return await database.fetch("SELECT * FROM outbox WHERE subject_id = $1 ORDER BY id", UUID(user["id"]))


async def set_aside(database: Connection, operator: Any, number: int) -> None:
    """Damage a row, name it as a relay does, and set it aside."""
    await name(database, number)
    assert await damaged_rows.set_aside(operator, number)


async def name(database: Connection, number: int) -> None:
    await database.execute("UPDATE outbox SET damage = 'no headers', headers = 'garbage' WHERE id = $1", number)


async def change(api: httpx.AsyncClient, user: dict[str, Any], display_name: str) -> dict[str, Any]:
    answer = await api.patch(f"/users/{user['id']}/profile", json={"display_name": display_name})
    assert answer.status_code == 200, answer.text
    changed: dict[str, Any] = answer.json()
    return changed


async def test_a_dropped_row_leaves_a_snapshot_of_its_own_version_made_from_the_next_event(
    api: httpx.AsyncClient, database: Connection, operator: Any, ann: dict[str, Any]
) -> None:
    second = await change(api, ann, "Ann")
    await change(api, ann, "Anna")
    _, damaged, last = await rows_of(database, ann)
    await set_aside(database, operator, damaged["id"])

    await damaged_rows.drop(operator, damaged["id"], OPERATION)

    _, replaced, behind = await rows_of(database, ann)
    envelope = envelope_of(replaced["headers"])
    assert (replaced["id"], replaced["appended_at"], behind) == (damaged["id"], damaged["appended_at"], last)
    assert (envelope.type, envelope.version, envelope.actor) == ("muster.user.snapshot.v1", 2, "cli:ann")
    assert json.loads(replaced["value"]) == {"user": second, "previous": {}}
    assert replaced["event_id"] == envelope.event_id
    assert await database.fetchval("SELECT count(*) FROM outbox_set_aside") == 0


async def test_the_last_row_is_replaced_by_what_the_user_is_under_the_id_that_any_snapshot_of_it_has(
    api: httpx.AsyncClient, database: Connection, operator: Any, ann: dict[str, Any]
) -> None:
    [damaged] = await rows_of(database, ann)
    await set_aside(database, operator, damaged["id"])

    message = await damaged_rows.drop(operator, damaged["id"], OPERATION)

    present = await database.fetchrow("SELECT * FROM users")
    again = snapshot(public_user(present), damaged["event_id"], OPERATION)
    [replaced] = await rows_of(database, ann)
    assert json.loads(replaced["value"])["user"] == ann
    assert replaced["event_id"] == message.event_id == again.event_id


async def test_of_two_damaged_rows_in_a_row_each_gets_its_version(
    api: httpx.AsyncClient, database: Connection, operator: Any, ann: dict[str, Any]
) -> None:
    await change(api, ann, "Ann")
    third = await change(api, ann, "Anna")
    for row in (await rows_of(database, ann))[:2]:
        await set_aside(database, operator, row["id"])
        await damaged_rows.drop(operator, row["id"], OPERATION)

    rows = await rows_of(database, ann)
    assert [envelope_of(row["headers"]).version for row in rows] == [1, 2, 3]
    assert json.loads(rows[2]["value"])["user"] == third


async def test_of_two_that_are_set_aside_at_once_each_gets_its_version(
    api: httpx.AsyncClient, database: Connection, operator: Any, ann: dict[str, Any]
) -> None:
    await change(api, ann, "Ann")
    await change(api, ann, "Anna")
    damaged = (await rows_of(database, ann))[:2]
    for row in damaged:
        await set_aside(database, operator, row["id"])
        # Nothing of it can be read.
        await database.execute("UPDATE outbox_set_aside SET value = NULL WHERE id = $1", row["id"])
    for row in damaged:
        await damaged_rows.drop(operator, row["id"], OPERATION)

    assert [envelope_of(row["headers"]).version for row in await rows_of(database, ann)] == [1, 2, 3]


@pytest.mark.parametrize("first_is_aside", [True, False])
async def test_a_row_is_not_dropped_before_an_earlier_one_of_its_user(
    api: httpx.AsyncClient, database: Connection, operator: Any, ann: dict[str, Any], *, first_is_aside: bool
) -> None:
    """The snapshot in its place would count as none when the earlier one's version is counted back."""
    await change(api, ann, "Ann")
    first, second = await rows_of(database, ann)
    await database.execute("UPDATE outbox SET damage = 'refused'")
    for row in (first, second) if first_is_aside else (second,):
        assert await damaged_rows.set_aside(operator, row["id"])
    with pytest.raises(damaged_rows.RowRefusedError, match=rf"behind row {first['id']} of the same user"):
        await damaged_rows.drop(operator, second["id"], OPERATION)


async def test_a_snapshot_that_waits_does_not_give_a_dropped_row_its_version(
    api: httpx.AsyncClient, database: Connection, operator: Any, ann: dict[str, Any]
) -> None:
    """As a refill appends it, while rows of several versions are set aside."""
    await change(api, ann, "Ann")
    await change(api, ann, "Anna")
    damaged = await rows_of(database, ann)
    for row in damaged:
        await database.execute("UPDATE outbox SET damage = 'refused' WHERE id = $1", row["id"])
        assert await damaged_rows.set_aside(operator, row["id"])
    async with database.transaction():
        await append_present(database, [UUID(ann["id"])], OPERATION)
    for row in damaged:
        await damaged_rows.drop(operator, row["id"], OPERATION)

    assert [envelope_of(row["headers"]).version for row in await rows_of(database, ann)] == [1, 2, 3, 3]


@pytest.mark.parametrize("deed", ["put_back", "drop"])
async def test_an_erasure_at_the_same_moment_leaves_nothing_of_the_person(
    deed: str, api: httpx.AsyncClient, database: Connection, operator: Any, ann: dict[str, Any]
) -> None:
    await change(api, ann, "Ann")
    await change(api, ann, "Anna")
    first, damaged, _ = await rows_of(database, ann)
    await set_aside(database, operator, damaged["id"])
    arguments = [OPERATION] if deed == "drop" else []
    user_id = UUID(ann["id"])
    async with database.transaction():
        # As an erasure begins; the deed comes before it goes on.
        await database.execute("DELETE FROM users WHERE id = $1", user_id)
        doing = asyncio.create_task(getattr(damaged_rows, deed)(operator, damaged["id"], *arguments))
        await until(partial(waits_or_ended, database, doing), within=10, what="the deed at the lock")
        await database.execute(FORGET_HELD_BACK, user_id)
        await database.execute(
            "INSERT INTO erased_users (id, version, event_id, erased_at) VALUES ($1, 4, gen_random_uuid(), now())",
            user_id,
        )

    with pytest.raises(RowRefusedError, match="has been erased"):
        await doing
    assert await rows_of(database, ann) == [first], "what is before it may be in flight"


async def waits_or_ended(database: Connection, task: asyncio.Task[None]) -> bool:
    waiting = await database.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
    return task.done() or bool(waiting)


async def test_a_row_that_is_put_back_is_what_it_was(
    api: httpx.AsyncClient, database: Connection, operator: Any, ann: dict[str, Any]
) -> None:
    await change(api, ann, "Ann")
    rows = await rows_of(database, ann)
    await name(database, rows[0]["id"])
    before = await rows_of(database, ann)
    await damaged_rows.set_aside(operator, rows[0]["id"])
    assert await rows_of(database, ann) == rows[1:]

    await damaged_rows.put_back(operator, rows[0]["id"])

    after = await rows_of(database, ann)
    assert [{**row, "damage": None} for row in before] == [dict(row) for row in after]


async def test_an_erasure_deletes_what_is_set_aside_and_what_waits_behind_it(
    api: httpx.AsyncClient, database: Connection, operator: Any, ann: dict[str, Any]
) -> None:
    bob = await register(api, "bob")
    await change(api, ann, "Ann")
    await change(api, bob, "Bob")
    await change(api, ann, "Anna")
    first, damaged, _ = await rows_of(database, ann)
    await set_aside(database, operator, damaged["id"])

    assert (await api.delete(f"/users/{ann['id']}")).status_code == 204

    left = await rows_of(database, ann)
    assert [row["id"] for row in left[:-1]] == [first["id"]], "what is before it may be in flight"
    assert [row["value"] for row in left[1:]] == [None]
    assert len(await rows_of(database, bob)) == 2
    assert await database.fetchval("SELECT count(*) FROM outbox_set_aside") == 0
    for refused in (
        damaged_rows.put_back(operator, damaged["id"]),
        damaged_rows.drop(operator, damaged["id"], OPERATION),
    ):
        with pytest.raises(RowRefusedError, match="its user has been erased"):
            await refused


async def test_an_erasure_deletes_a_row_that_a_relay_has_named_too(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    await change(api, ann, "Ann")
    await name(database, (await rows_of(database, ann))[0]["id"])

    assert (await api.delete(f"/users/{ann['id']}")).status_code == 204

    [tombstone] = await rows_of(database, ann)
    assert tombstone["value"] is None


async def test_an_erased_users_row_is_not_kept_when_it_is_set_aside(
    api: httpx.AsyncClient, database: Connection, operator: Any, ann: dict[str, Any]
) -> None:
    assert (await api.delete(f"/users/{ann['id']}")).status_code == 204
    damaged, tombstone = await rows_of(database, ann)
    await name(database, damaged["id"])

    assert not await damaged_rows.set_aside(operator, damaged["id"])

    assert await rows_of(database, ann) == [tombstone]
    assert await database.fetchval("SELECT count(*) FROM outbox_set_aside") == 0


async def test_the_erasure_itself_is_published_as_a_tombstone_when_its_row_is_dropped(
    api: httpx.AsyncClient, database: Connection, operator: Any, ann: dict[str, Any]
) -> None:
    assert (await api.delete(f"/users/{ann['id']}")).status_code == 204
    tombstone = (await rows_of(database, ann))[-1]
    await set_aside(database, operator, tombstone["id"])

    await damaged_rows.drop(operator, tombstone["id"], OPERATION)

    replaced = (await rows_of(database, ann))[-1]
    envelope = envelope_of(replaced["headers"])
    assert (replaced["id"], replaced["event_id"], replaced["value"]) == (tombstone["id"], tombstone["event_id"], None)
    assert (envelope.type, envelope.version) == ("muster.user.erased.v1", 2)


@pytest.mark.parametrize("deed", ["set_aside", "put_back", "drop"])
async def test_a_row_that_is_whole_or_not_there_is_refused(
    deed: str, database: Connection, operator: Any, ann: dict[str, Any]
) -> None:
    [row] = await rows_of(database, ann)
    arguments = [OPERATION] if deed == "drop" else []

    for number, said in ((row["id"], "can still be published|not set aside"), (10**12, "There is no row")):
        with pytest.raises(RowRefusedError, match=said):
            await getattr(damaged_rows, deed)(operator, number, *arguments)

    assert await rows_of(database, ann) == [row]
