"""What the command side holds is published once more: never behind a newer event of its user, always under one id."""

import asyncio
import json
from typing import Any
from uuid import UUID

import httpx

from chassis.postgres.database import connect, disconnect
from chassis.postgres.roles import OPERATOR
from chassis.settings import PostgresAddress
from command_api.republication import Operation, append_present
from events.user_events import USER_EVENTS, UserSnapshot
from tests.databases import as_role
from tests.envelopes import envelope_of
from tests.integration.command_api.conftest import Connection, register, registration, until_somebody_waits

OPERATION = Operation("cli:ann")
#: A row has its outbox id before the trigger runs, and would bring its transaction an xid only after that.
XID_FIRST = """
CREATE FUNCTION xid_first() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_current_xact_id_if_assigned() IS NULL THEN
        RAISE 'outbox id % was taken before an xid', NEW.id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER xid_first BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION xid_first();
"""


async def republish(database: Connection, *users: dict[str, Any]) -> set[UUID]:
    async with database.transaction():
        return set(await append_present(database, [UUID(user["id"]) for user in users], OPERATION))


async def test_a_living_user_is_published_as_it_is_under_an_id_of_the_event_that_brought_it(
    api: httpx.AsyncClient, command_database: PostgresAddress, database: Connection, ann: dict[str, Any]
) -> None:
    shown = (await api.put(f"/users/{ann['id']}/email", json={"email": "new@example.com"})).content
    operator = await connect(as_role(command_database, OPERATOR), application="test")
    try:
        assert await republish(operator, ann) == await republish(operator, ann) == {UUID(ann["id"])}
    finally:
        await disconnect(operator)

    event, first, again = await database.fetch("SELECT * FROM outbox ORDER BY id OFFSET 1")
    envelope = envelope_of(first["headers"])
    assert (envelope.type, envelope.version, envelope.actor) == (UserSnapshot.type(), 2, "cli:ann")
    assert (envelope.event_id, envelope.event_id.version) == (first["event_id"], 8)
    assert first["event_id"] == again["event_id"] != event["event_id"]
    assert first["value"] == b'{"user":%b,"previous":{}}' % shown
    assert isinstance(USER_EVENTS.decode(envelope.type, first["value"]), UserSnapshot)
    await api.put(f"/users/{ann['id']}/email", json={"email": "third@example.com"})
    await republish(database, ann)
    assert await database.fetchval("SELECT event_id FROM outbox ORDER BY id DESC LIMIT 1") != first["event_id"]


async def test_an_erasure_is_published_again_under_its_own_id(
    api: httpx.AsyncClient, database: Connection, ann: dict[str, Any]
) -> None:
    await api.delete(f"/users/{ann['id']}")
    await republish(database, ann)

    once, again = await database.fetch("SELECT * FROM outbox WHERE value IS NULL ORDER BY id")
    first, second = envelope_of(once["headers"]), envelope_of(again["headers"])
    assert (second.event_id, second.type, second.version, second.time) == (
        first.event_id, first.type, first.version, first.time,
    )  # fmt: skip
    # As one from before its id was kept.
    await database.execute("UPDATE erased_users SET event_id = NULL")
    await republish(database, ann)
    await republish(database, ann)
    old, same = await database.fetch("SELECT event_id FROM outbox ORDER BY id OFFSET 3")
    assert old["event_id"] == same["event_id"]
    assert old["event_id"].version == 8


async def test_a_command_that_runs_beside_it_is_published_behind_it(
    api: httpx.AsyncClient, command_database: PostgresAddress, database: Connection, ann: dict[str, Any]
) -> None:
    operator = await connect(command_database, application="test")
    try:
        async with operator.transaction():
            await append_present(operator, [UUID(ann["id"])], OPERATION)
            change = asyncio.create_task(api.put(f"/users/{ann['id']}/email", json={"email": "new@example.com"}))
            await until_somebody_waits(database)
        assert (await change).status_code == 200
    finally:
        await disconnect(operator)

    rows = await database.fetch("SELECT headers FROM outbox ORDER BY id")
    assert [(one.version, one.type.split(".")[2]) for one in map(envelope_of, (row["headers"] for row in rows))] == [
        (1, "registered"),
        (1, "snapshot"),
        (2, "email_changed"),
    ]


async def test_it_waits_for_a_command_and_publishes_what_that_left(
    command_database: PostgresAddress, database: Connection, ann: dict[str, Any]
) -> None:
    operator = await connect(command_database, application="test")
    try:
        async with operator.transaction():
            await operator.execute("DELETE FROM users")
            await operator.execute(
                "INSERT INTO erased_users (id, version, erased_at, event_id) VALUES ($1, 2, now(), $2)",
                ann["id"],
                UUID(int=7),
            )
            republished = asyncio.create_task(republish(database, ann))
            await until_somebody_waits(operator)
        assert await republished == {UUID(ann["id"])}
    finally:
        await disconnect(operator)

    assert await database.fetchval("SELECT event_id FROM outbox ORDER BY id DESC LIMIT 1") == UUID(int=7)


async def test_nothing_is_published_of_who_never_was(database: Connection) -> None:
    assert await republish(database, {"id": "0192f0c1-7a3e-7c4e-9d53-0a6f1d1c2b3a"}) == set()
    assert await database.fetchval("SELECT count(*) FROM outbox") == 0


async def test_whoever_appends_has_an_xid_before_an_outbox_id_as_the_relays_floor_needs(
    api: httpx.AsyncClient, database: Connection
) -> None:
    await database.execute(XID_FIRST)

    ann, bob = await register(api, "ann"), await register(api, "bob")
    (await api.put(f"/users/{ann['id']}/email", json={"email": "new@example.com"})).raise_for_status()
    line = json.dumps(registration("eve"))
    (await api.post("/users/import", content=line, headers={"Content-Type": "application/x-ndjson"})).raise_for_status()
    (await api.delete(f"/users/{bob['id']}")).raise_for_status()
    await republish(database, ann)
    await republish(database, bob)

    assert await database.fetchval("SELECT count(*) FROM outbox") == 7
