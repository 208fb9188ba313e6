"""The sizes with which `python -m benchmarks.scale` reckons are those that rows have; and a backlog is publishable."""

from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from benchmarks.population import fill_command, fill_query
from benchmarks.relay.backlog import append_many
from benchmarks.scale import measured
from chassis.settings import PostgresAddress
from events.envelope import read_envelope
from events.user_events import USER_EVENTS
from outbox.damage import Examiner
from outbox.headers import encode_headers
from outbox.publishing.record_batch import RecordBatch, encode_event
from projectors.decoding.records import DecodedEvent
from projectors.decoding.slices import SliceDecoder
from projectors.projections.timeline import TimelineWriter
from projectors.projections.user_subject import USERS as USERS_SUBJECT
from read_model.timeline import timeline_tables
from tests.integration.outbox.traffic import append
from tests.integration.projectors.stream import FakeRecord, lives

#: Enough for whole pages; sizes need no more.
USERS = 3000
ROWS = 500
#: As docs/benchmarks/relay.md has it.
VALUE = b"x" * 347
#: Of a commit, on each partition that a transaction wrote: a batch with one control record (Kafka's protocol guide).
MARKER = 78


def of_one_by_one() -> list[FakeRecord]:
    """Events as single commands make them: people register, and change what they like; nobody is erased."""
    kept = {"registered", "email_changed", "username_changed", "profile_changed"}
    types = [(change, dict(change.headers)["ce_type"] or b"") for change in lives(ROWS, 3 * ROWS, seed=1)]
    return [change for change, type_ in types if type_.decode().split(".")[2] in kept]


async def size(connection: asyncpg.Connection, table: str) -> float:
    """Bytes of a table with its indexes."""
    return float(await connection.fetchval("SELECT pg_total_relation_size($1::text::regclass)", table))


async def test_a_user_takes_as_much_as_the_plans_say(
    command_database: PostgresAddress, query_database: PostgresAddress
) -> None:
    command = await asyncpg.connect(**command_database.connect_arguments)
    query = await asyncpg.connect(**query_database.connect_arguments)
    try:
        await fill_command(command, USERS)
        await fill_query(query, USERS)

        assert await size(command, "users") / USERS == pytest.approx(measured.COMMAND_USER, rel=0.25)
        assert await size(query, "users_g1") / USERS == pytest.approx(measured.QUERY_USERS_ROW, rel=0.25)
    finally:
        await command.close()
        await query.close()


async def test_a_row_of_the_outbox_takes_as_much_as_the_plans_say(command_database: PostgresAddress) -> None:
    connection = await asyncpg.connect(**command_database.connect_arguments)
    try:
        async with connection.transaction():
            for _ in range(ROWS):
                await append(connection, uuid4(), 1, VALUE)

        assert await size(connection, "outbox") / ROWS == pytest.approx(measured.OUTBOX_ROW, rel=0.25)
    finally:
        await connection.close()


async def test_an_entry_of_the_timeline_takes_as_much_as_the_plans_say(query_database: PostgresAddress) -> None:
    events = SliceDecoder(USERS_SUBJECT).read(of_one_by_one())
    connection = await asyncpg.connect(**query_database.connect_arguments)
    try:
        await TimelineWriter(1).apply(connection, [event for event in events if isinstance(event, DecodedEvent)])
        entries = timeline_tables(1).entries.name
        assert await connection.fetchval(f"SELECT count(*) FROM {entries}") == len(events)
        assert await size(connection, entries) / len(events) == pytest.approx(measured.TIMELINE_ENTRY, rel=0.25)
    finally:
        await connection.close()


def test_an_event_alone_in_its_batch_takes_as_much_as_the_plans_say() -> None:
    def bytes_of(change: FakeRecord) -> int:
        key, headers = (change.key or b"").decode(), encode_headers(read_envelope(change.headers))
        row: Any = {"subject_id": key, "value": change.value, "headers": headers}
        return RecordBatch([encode_event(row)], 0).size() + MARKER

    events = of_one_by_one()

    assert sum(map(bytes_of, events)) / len(events) == pytest.approx(measured.EVENT, rel=0.25)


async def test_a_backlog_that_the_server_makes_has_no_damaged_row(command_database: PostgresAddress) -> None:
    connection = await asyncpg.connect(**command_database.connect_arguments)
    try:
        await append_many(connection, ROWS)
        rows = await connection.fetch("SELECT * FROM outbox")
    finally:
        await connection.close()

    examiner = Examiner(USER_EVENTS)
    assert len({row["event_id"] for row in rows}) == ROWS
    assert [damage for row in rows if (damage := examiner.damage_of(row))] == []
