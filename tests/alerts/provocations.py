"""What is done to a running Muster so that each alert fires; most of it is undone with its block."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import uuid4

import httpx
from aiokafka import AIOKafkaProducer

from benchmarks.population import FIXED_HASH
from chassis.consistency import ConsistencyToken
from chassis.kafka.client import client_arguments
from chassis.lifecycle import alongside
from chassis.postgres.database import Connection
from chassis.settings import Topics
from cli.stack.discovery import issuer_folder
from cli.stack.settings import COMMAND_DATABASE, QUERY_DATABASE
from events.user_events import UserRegistered
from local_stack.issuer_files import KEY_SET
from tests.alerts.stage import Stage, again_and_again
from tests.chaos.faults import limit_files
from tests.chaos.observation import connected
from tests.integration.disasters.pages import lose_topic
from tests.integration.projectors.stream import FakeRecord, new_user, record
from tests.waiting import until

PAGE: Final = "page"
TICKET: Final = "ticket"
#: Within which the relay holds, or projectors note, what was done to them, on any machine.
NOTED_SECONDS: Final = 60.0
#: Users whose events take more of the disk than the hastened rule allows.
MANY: Final = 6000
#: The event that waits, again, under a number of long ago.
_OLD_NUMBER: Final = """
INSERT INTO outbox (id, event_id, subject_id, value, headers) OVERRIDING SYSTEM VALUE
SELECT 1, event_id, subject_id, value, headers FROM outbox WHERE id = $1
"""

Struck = AbstractAsyncContextManager[None]


@dataclass(frozen=True, slots=True)
class Provocation:
    """What is done, in words, and the alerts that fire of it, with their severities."""

    words: str
    strike: Callable[[Stage], Struck]
    alerts: dict[str, tuple[str, ...]]


@asynccontextmanager
async def _frozen(name: str, stage: Stage) -> AsyncIterator[None]:
    child = stage.stack.child(name)
    child.pause()
    try:
        yield
    finally:
        child.resume()


@asynccontextmanager
async def _waits_in_vain(stage: Stage) -> AsyncIterator[None]:
    """Clients ask for versions that do not come."""
    user = uuid4()
    headers = {"Consistency-Token": ConsistencyToken(user, 1).encode(), "Prefer": "wait=1"}
    async with alongside(again_and_again(lambda: stage.queries.get(f"/users/{user}", headers=headers))):
        yield


@asynccontextmanager
async def _tables_locked(stage: Stage) -> AsyncIterator[None]:
    async with AsyncExitStack() as held:
        for database, table in ((COMMAND_DATABASE, "users"), (QUERY_DATABASE, "users_g1")):
            connection = await held.enter_async_context(connected(stage.stack, database))
            await held.enter_async_context(connection.transaction())
            await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        yield


@asynccontextmanager
async def _row_damaged(stage: Stage) -> AsyncIterator[None]:
    """Its user's later event waits behind it; then it is set aside, as its page says."""
    async with _waiting_row(stage) as (connection, row):
        await connection.execute("UPDATE outbox SET headers = 'garbage' WHERE id = $1", row)
    try:
        yield
    finally:
        await stage.muster("outbox", "set-aside", str(row))


@asynccontextmanager
async def _waiting_row(stage: Stage) -> AsyncIterator[tuple[Connection, int]]:
    """A row that came while the relay was frozen, which goes on with the end of the block."""
    relay = stage.stack.child("relay")
    relay.pause()
    try:
        async with connected(stage.stack, COMMAND_DATABASE) as connection:
            greatest = await connection.fetchval("SELECT max(id) FROM outbox") or 0

            async def found() -> int | None:
                row: int | None = await connection.fetchval("SELECT min(id) FROM outbox WHERE id > $1", greatest)
                return row

            row = await until(found, within=NOTED_SECONDS, what="an event that waits")
            assert row is not None
            yield connection, row
    finally:
        relay.resume()


@asynccontextmanager
async def _row_set_aside(stage: Stage) -> AsyncIterator[None]:
    """Since the provocation before; afterwards it is given up."""
    yield
    async with connected(stage.stack, COMMAND_DATABASE) as connection:
        number = await connection.fetchval("SELECT id FROM outbox_set_aside")
    await stage.muster("outbox", "drop", str(number))


@asynccontextmanager
async def _row_below_the_floor(stage: Stage) -> AsyncIterator[None]:
    """A row with a number of long ago, which no command can bring about."""
    async with _waiting_row(stage) as (connection, row):
        await connection.execute(_OLD_NUMBER, row)
    yield


@asynccontextmanager
async def _strange_record(stage: Stage, forged: FakeRecord) -> AsyncIterator[None]:
    await _send(stage, forged)
    yield


async def _send(stage: Stage, forged: FakeRecord) -> None:
    producer = AIOKafkaProducer(**client_arguments(stage.stack.brokers))
    await producer.start()
    try:
        topic = Topics(_env_file=None).events_topic
        await producer.send_and_wait(topic, forged.value, key=forged.key, headers=list(forged.headers))
    finally:
        await producer.stop()


def _unreadable() -> FakeRecord:
    """An event of ours whose value is not JSON."""
    return replace(record(UserRegistered(user=new_user(1))), value=b"{")


def _foreign() -> FakeRecord:
    """An event that somebody else says happened."""
    ours = record(UserRegistered(user=new_user(2)))
    return replace(ours, headers=[(name, b"/evil" if name == "ce_source" else value) for name, value in ours.headers])


@asynccontextmanager
async def _checkpoints_locked(stage: Stage) -> AsyncIterator[None]:
    async with connected(stage.stack, QUERY_DATABASE) as connection, connection.transaction():
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await connection.execute("SELECT FROM checkpoints FOR UPDATE")
        yield


@asynccontextmanager
async def _snapshot_kept(stage: Stage) -> AsyncIterator[None]:
    """Somebody's transaction still sees the rows of thousands of users who come and are published meanwhile."""
    async with connected(stage.stack, COMMAND_DATABASE) as kept, kept.transaction(isolation="repeatable_read"):
        await kept.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await kept.fetchval("SELECT count(*) FROM outbox")
        users = (
            {"email": f"kept-{number}@example.com", "username": f"kept-{number}", "password_hash": FIXED_HASH}
            for number in range(MANY)
        )
        lines = "\n".join(map(json.dumps, users))
        headers = {"Content-Type": "application/x-ndjson"}
        answer = await stage.commands.post("/users/import", content=lines, headers=headers, timeout=NOTED_SECONDS)
        answer.raise_for_status()
        yield


@asynccontextmanager
async def _not_renewed(stage: Stage) -> AsyncIterator[None]:
    """What renews a client's certificate has put one there that is good for an hour."""
    stage.stack.certify(timedelta(hours=1))
    yield


@asynccontextmanager
async def _keys_gone(stage: Stage) -> AsyncIterator[None]:
    keys = issuer_folder(stage.stack.folder) / KEY_SET
    aside = keys.rename(keys.with_suffix(".aside"))
    try:
        yield
    finally:
        aside.rename(keys)


@asynccontextmanager
async def _port_full(stage: Stage) -> AsyncIterator[None]:
    """Two streams are all that the event API may serve here; somebody asks again and again for a third."""

    async def stream() -> None:
        with suppress(httpx.HTTPError):
            async with stage.events.stream("GET", "/events", timeout=None) as answer:
                async for _ in answer.aiter_bytes():
                    pass

    async with alongside(again_and_again(stream)):
        yield


@asynccontextmanager
async def _log_full(stage: Stage) -> AsyncIterator[None]:
    """No file of the command API's may grow: its disk is full."""
    child = stage.stack.child("command-api")
    await limit_files(child, "0")
    try:
        yield
    finally:
        await limit_files(child, "unlimited")


@asynccontextmanager
async def _topic_lost(stage: Stage) -> AsyncIterator[None]:
    """The last of all: what mends it is a page of its own, which other tests walk."""
    await lose_topic(stage.stack.brokers, Topics(_env_file=None).events_topic)
    yield


PROVOCATIONS: Final = (
    Provocation(
        "Kafka is frozen while people register",
        partial(_frozen, "kafka"),
        {"MusterOutboxStuck": (PAGE,), "MusterOutboxGrowing": (PAGE,), "MusterChangesLate": (PAGE, TICKET)},
    ),
    Provocation("A process is frozen", partial(_frozen, "event-api"), {"MusterProcessDown": (TICKET,)}),
    Provocation(
        "The relay is frozen, and no other stands by", partial(_frozen, "relay"), {"MusterRelayMissing": (PAGE,)}
    ),
    Provocation("The projectors are frozen", partial(_frozen, "projectors"), {"MusterProjectorsMissing": (PAGE,)}),
    Provocation(
        "Somebody holds the tables of both sides",
        _tables_locked,
        {"MusterCommandsFailing": (PAGE, TICKET), "MusterQueriesFailing": (PAGE, TICKET)},
    ),
    Provocation("Queries wait for versions that do not come", _waits_in_vain, {"MusterTokenReadsLate": (PAGE, TICKET)}),
    Provocation("A row of the outbox is damaged", _row_damaged, {"MusterOutboxHeld": (PAGE,)}),
    Provocation("It is set aside", _row_set_aside, {"MusterOutboxSetAside": (TICKET,)}),
    Provocation("A row has a number of long ago", _row_below_the_floor, {"MusterBelowFloor": (TICKET,)}),
    Provocation(
        "A record of ours cannot be read",
        lambda stage: _strange_record(stage, _unreadable()),
        {"MusterRecordsParked": (TICKET,)},
    ),
    Provocation(
        "A record comes from somebody else",
        lambda stage: _strange_record(stage, _foreign()),
        {"MusterForeignRecords": (PAGE,)},
    ),
    Provocation(
        "Somebody holds the checkpoints",
        _checkpoints_locked,
        {"MusterPartitionsUnassigned": (PAGE,), "MusterTombstonesAtRisk": (PAGE,)},
    ),
    Provocation(
        "A transaction is left open while thousands of events are published",
        _snapshot_kept,
        {"MusterOutboxBloated": (TICKET,)},
    ),
    Provocation("A certificate is not renewed", _not_renewed, {"MusterCertificateExpires": (PAGE, TICKET)}),
    Provocation("The issuer's keys are gone", _keys_gone, {"MusterIssuerKeysStale": (TICKET,)}),
    Provocation("More clients come than a port may have", _port_full, {"MusterPortFull": (TICKET,)}),
    Provocation("The disk of a log is full", _log_full, {"MusterLogLinesLost": (TICKET,)}),
    Provocation("The events topic is deleted", _topic_lost, {"MusterCheckpointRefused": (PAGE,)}),
)
