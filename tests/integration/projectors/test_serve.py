"""A projectors process on a real topic and a real database."""

import json
from functools import partial
from typing import Any

from chassis.postgres.database import Database
from events.user_events import UserErased, UserRegistered
from projectors.app import serve
from projectors.settings import ProjectorSettings
from tests.integration.projectors.conftest import running
from tests.integration.projectors.stream import Publisher, new_user, record
from tests.waiting import until


async def test_a_registered_user_becomes_a_row_with_the_bytes_to_send(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    user = new_user()
    async with running(partial(serve, settings)):
        await publisher.publish([record(UserRegistered(user=user))])
        row = await until(lambda: _row(database, "SELECT * FROM users_g1"), within=20, what="the row")
    assert bytes(row["document"]) == user.model_dump_json().encode()
    assert json.loads(bytes(row["document"]))["updated_at"] == "2026-11-01T12:00:00.000000Z"
    assert (row["id"], row["version"], row["username_key"]) == (user.id, 1, "user-0")


async def test_goes_on_at_its_checkpoint_after_a_restart(
    settings: ProjectorSettings, database: Database, publisher: Publisher
) -> None:
    first, second = new_user(1), new_user(2)
    await publisher.publish([record(UserRegistered(user=first))])
    async with running(partial(serve, settings)):
        await until(lambda: _row(database, "SELECT * FROM users_g1"), within=20, what="the first row")
    await publisher.publish([record(UserRegistered(user=second)), record(UserErased(first.id, 2))])
    async with running(partial(serve, settings)):
        await until(lambda: _row(database, "SELECT * FROM users_g1_erased"), within=20, what="the erasure")
    async with database.connection() as connection:
        assert [row["id"] for row in await connection.fetch("SELECT id FROM users_g1")] == [second.id]


async def _row(database: Database, query: str) -> Any:
    async with database.connection() as connection:
        return await connection.fetchrow(query)
