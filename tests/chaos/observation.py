"""What is there in the end: the log as a subscriber reads it, and what both databases hold."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, Final

from chassis.clock import rfc3339
from chassis.postgres.database import NO_CONNECTION, Connection, connect, disconnect
from chassis.settings import Topics
from chassis.text_keys import email_key, text_key
from cli.stack.settings import COMMAND_DATABASE, QUERY_DATABASE
from tests.chaos.checker import check
from tests.chaos.history import Document, History, Record, Sides
from tests.chaos.stack import ChaosStack
from tests.conftest import address_on
from tests.integration.outbox.relaying import settings_for
from tests.integration.outbox.traffic import consume
from tests.waiting import until

#: Between two looks while the read side catches up.
LOOK_SECONDS: Final = 0.3
#: A server that was killed replays its log within this, also on a loaded machine.
CONNECT_SECONDS: Final = 120.0
#: The columns of a user's row that are no text, beside the document's own form of them.
_TIMES: Final = ("created_at", "updated_at")


async def observe(stack: ChaosStack, history: History, within: float, broken: Collection[str] = ()) -> None:
    """Note the log once all is published, and both sides once they are as the log says, or the seconds are over.

    Of a bug that was planted nobody waits for what it breaks, but for everything else: a relay that is slow breaks
    promises as one does that loses.
    """
    deadline = time.monotonic() + within
    history.sides = await _sides(stack)
    while history.sides.waiting and time.monotonic() < deadline:
        await asyncio.sleep(LOOK_SECONDS)
        history.sides = await _sides(stack)
    history.log = [*stack.lost, *await read_log(stack)]
    history.unread = stack.unread
    # Nothing is said of commands here.
    expected = {"unknown-write", "not-recovered", *broken}
    while time.monotonic() < deadline and (check(replace(history, commands=[], reads=[], walks=[])).keys() - expected):
        await asyncio.sleep(LOOK_SECONDS)
        history.sides = await _sides(stack)


async def read_log(stack: ChaosStack) -> list[Record]:
    """What is on the topic that is there now."""
    settings = settings_for(
        address_on(stack.servers.postgres.address, COMMAND_DATABASE), stack.brokers, Topics(_env_file=None)
    )
    number = max((record.topic + 1 for record in stack.lost), default=0)
    found = []
    for record in (await consume(settings)).records:
        told = {name: value.decode() for name, value in record.headers}
        document: Document | None = json.loads(record.value)["user"] if record.value is not None else None
        found.append(
            Record(
                *(record.partition, record.offset, record.key.decode(), int(told["ce_sequence"]), told["ce_id"]),
                *(told["ce_type"], told["ce_correlationid"], document, number),
            )
        )
    return found


async def _sides(stack: ChaosStack) -> Sides:
    sides = Sides()
    for database, look in ((COMMAND_DATABASE, _command_side), (QUERY_DATABASE, _read_side)):
        async with (
            connected(stack, database) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await look(connection, sides)
    return sides


@asynccontextmanager
async def connected(stack: ChaosStack, database: str) -> AsyncIterator[Connection]:
    """A connection, also to a server that still recovers."""

    async def there() -> "Connection | None":
        with suppress(*NO_CONNECTION):
            return await connect(address_on(stack.servers.postgres.address, database), application="chaos")
        return None

    connection = await until(there, within=CONNECT_SECONDS, what="the server to recover")
    assert connection is not None
    try:
        yield connection
    finally:
        await disconnect(connection)


async def _command_side(connection: Connection, sides: Sides) -> None:
    for row in await connection.fetch("SELECT * FROM users"):
        hidden = {"id", "event_id", "email_key", "username_key", "password_hash", "password_set_by", *_TIMES}
        document = {name: value for name, value in row.items() if name not in hidden}
        document |= {name: rfc3339(row[name]) for name in _TIMES}
        document |= {"attributes": json.loads(row["attributes"]), "is_active": row["status"] == "active"}
        sides.users[str(row["id"])] = {"id": str(row["id"]), **document}
    for row in await connection.fetch("SELECT * FROM erased_users"):
        sides.erased[str(row["id"])] = row["version"]
    sides.waiting = await connection.fetchval("SELECT count(*) FROM outbox")


def _columns(row: Any) -> Document:
    """By what a row is found and sorted, in the document's own form; keys where they are others than the fields'."""
    document = json.loads(row["document"])
    keys = {"email_key": email_key(document["email"]), "username_key": text_key(document["username"])}
    wrong = {name: row[name] for name, key in keys.items() if row[name] != key}
    return {
        "version": row["version"],
        "status": row["status"],
        **{name: rfc3339(row[name]) for name in _TIMES},
        **wrong,
    }


async def _read_side(connection: Connection, sides: Sides) -> None:
    generations = await connection.fetch("SELECT projection, generation FROM generations WHERE status = 'serving'")
    serving = {row["projection"]: row["generation"] for row in generations}
    users, timeline, signups = (f"{name}_g{serving[name]}" for name in ("users", "timeline", "signups"))
    for row in await connection.fetch(f"SELECT * FROM {users}"):
        sides.read_users[str(row["id"])] = json.loads(row["document"]) | _columns(row)
    for row in await connection.fetch(f"SELECT * FROM {users}_erased"):
        sides.read_erased[str(row["id"])] = row["version"]
    for row in await connection.fetch(f"SELECT user_id, version FROM {timeline} ORDER BY user_id, version"):
        sides.timeline.setdefault(str(row["user_id"]), []).append(row["version"])
    for row in await connection.fetch(f"SELECT * FROM {signups}"):
        for status in ("active", "deactivated"):
            if row[status]:
                sides.signups[f"{row['day']} {status}"] = row[status]
    sides.parked = await connection.fetchval("SELECT count(*) FROM parked_records")
