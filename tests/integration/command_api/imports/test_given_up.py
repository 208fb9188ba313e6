"""Who is given up by a repair is not imported at the same moment: whoever comes second sees the first."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest

from chassis.identifiers import new_id
from chassis.postgres.database import Connection, Database, connect, disconnect
from chassis.postgres.roles import COMMAND, OPERATOR
from chassis.settings import PostgresAddress
from command_api.imports.store import ImportBatch, ImportOutcome, ImportStore, NewUser, RowMaker
from command_api.present_state import give_up
from command_api.users.context import Cause
from events.user_events import UserRegistered
from tests.databases import as_role
from tests.integration.projectors.stream import new_user
from tests.waiting import until

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
async def operator(command_database: PostgresAddress) -> AsyncIterator[Connection]:
    """An operator's session on the command database."""
    connection = await connect(as_role(command_database, OPERATOR), application="test")
    yield connection
    await disconnect(connection)


@pytest.fixture
async def store(command_database: PostgresAddress) -> AsyncIterator[ImportStore]:
    async with Database.open(as_role(command_database, COMMAND), application="test") as database:
        yield ImportStore(database)


def somebody() -> NewUser:
    cause = Cause(command_id=str(new_id()), correlation_id="test")
    return RowMaker(NOW, cause).make(UserRegistered(user=new_user(1)), new_id(), None)


async def test_an_import_waits_for_a_repair_and_brings_nobody_whom_it_gave_up(
    operator: Connection, store: ImportStore, database: Connection
) -> None:
    user = somebody()
    async with operator.transaction():
        assert await give_up(operator, user.id, 7, new_id(), NOW)
        importing = asyncio.create_task(store.insert(ImportBatch([user])))
        await until(partial(waiting_or_ended, database, 1, importing), within=10, what="the import")
    assert await importing == [ImportOutcome.ERASED]
    assert await database.fetchval("SELECT count(*) FROM users") == 0


async def test_a_repair_waits_for_an_import_and_gives_up_nobody_whom_it_brought(
    operator: Connection, store: ImportStore, database: Connection
) -> None:
    user = somebody()

    async def give_up_now() -> bool:
        async with operator.transaction():
            return await give_up(operator, user.id, 7, new_id(), NOW)

    async with database.transaction():
        # The import has written its user, and waits to write the event.
        await database.execute("LOCK TABLE outbox IN SHARE MODE")
        importing = asyncio.create_task(store.insert(ImportBatch([user])))
        await until(partial(waiting_or_ended, database, 1, importing), within=10, what="the import")
        giving_up = asyncio.create_task(give_up_now())
        await until(partial(waiting_or_ended, database, 2, giving_up), within=10, what="the repair")
    assert await importing == [ImportOutcome.CREATED]
    assert not await giving_up


async def waiting_or_ended(connection: Connection, number: int, task: asyncio.Task[Any]) -> bool:
    waiting: int = await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted")
    return task.done() or waiting >= number
