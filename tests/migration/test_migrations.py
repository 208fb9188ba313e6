"""Both databases: every migration can be taken, taken back and taken again, and leads to what the models say."""

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import ANY
from uuid import UUID

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import validate_email
from sqlalchemy import Connection, MetaData
from sqlalchemy.ext.asyncio import create_async_engine

from chassis.postgres.database import Connection as AsyncConnection
from chassis.postgres.database import connect, disconnect
from chassis.postgres.migrations import downgrade, upgrade
from chassis.settings import PostgresAddress
from chassis.text_keys import email_key, text_key
from command_api import migrate as command
from command_api.idempotency.records import LOAD_ANSWER, stored_answer
from command_api.idempotency.replay import CommandAnswer, StoredAnswer
from command_api.schema import command_metadata
from projectors import migrate as query
from read_model import tables as query_tables

ROOT = Path(__file__).parents[2]
#: Longer than a migration of an empty database takes, shorter than anyone waits for a deadlock.
BLOCKED_SECONDS = 20


@dataclass(frozen=True)
class Side:
    name: str
    migrate: Callable[[PostgresAddress, str], list[str]]
    revert: Callable[[PostgresAddress, str], list[str]]
    metadata: MetaData


def _side(name: str, location: str, metadata: MetaData) -> Side:
    return Side(name, partial(upgrade, location), partial(downgrade, location), metadata)


SIDES = {
    "command": _side("command", command.MIGRATIONS, command_metadata()),
    "query": _side("query", query.LOCATION, query_tables.metadata),
}


@pytest.fixture(params=list(SIDES))
def side(request: pytest.FixtureRequest) -> Side:
    return SIDES[request.param]


async def test_the_query_databases_generations_go_with_it_and_come_again(empty_database: PostgresAddress) -> None:
    made = await asyncio.to_thread(query.migrate, empty_database)
    await asyncio.to_thread(query.revert, empty_database, "base")
    left = await _tables(empty_database)
    again = await asyncio.to_thread(query.migrate, empty_database)

    assert left <= {"alembic_version"}
    assert again == made
    assert "users generation 1" in made


async def test_go_up_down_and_up_again(side: Side, empty_database: PostgresAddress) -> None:
    up = await asyncio.to_thread(side.migrate, empty_database, "head")
    tables = await _tables(empty_database)
    await asyncio.to_thread(side.revert, empty_database, "base")
    left = await _tables(empty_database) & set(side.metadata.tables)
    again = await asyncio.to_thread(side.migrate, empty_database, "head")

    assert up
    assert set(side.metadata.tables) <= tables
    assert left == set()
    assert again
    assert set(side.metadata.tables) <= await _tables(empty_database)


async def test_lead_to_what_the_models_say(side: Side, empty_database: PostgresAddress) -> None:
    await asyncio.to_thread(side.migrate, empty_database, "head")
    engine = create_async_engine("postgresql+asyncpg://", connect_args=empty_database.connect_arguments)
    try:
        async with engine.connect() as connection:
            differences = await connection.run_sync(_differences, side.metadata)
    finally:
        await engine.dispose()

    assert differences == []


async def test_storage_settings_and_collations_are_those_of_the_models(
    side: Side, empty_database: PostgresAddress
) -> None:
    """What Alembic's comparison leaves out."""
    await asyncio.to_thread(side.migrate, empty_database, "head")
    connection = await connect(empty_database, application="test")
    try:
        for table in side.metadata.sorted_tables:
            wanted = (
                {f"{name}={value}" for name, value in table.dialect_options["postgresql"]["with"].items()}
                if (table.dialect_options["postgresql"].get("with"))
                else set()
            )
            found = await connection.fetchval("SELECT reloptions FROM pg_class WHERE oid = $1::regclass", table.name)
            assert set(found or []) == wanted
            collations = {row["attname"]: row["collname"] for row in await connection.fetch(_COLLATIONS, table.name)}
            for column in table.columns:
                wanted_collation = getattr(column.type, "collation", None)
                assert collations.get(column.name) == wanted_collation, f"{table.name}.{column.name}"
    finally:
        await disconnect(connection)


async def test_are_harmless_when_repeated(side: Side, empty_database: PostgresAddress) -> None:
    await asyncio.to_thread(side.migrate, empty_database, "head")

    assert await asyncio.to_thread(side.migrate, empty_database, "head") == []


async def test_two_processes_at_once_take_turns(side: Side, empty_database: PostgresAddress) -> None:
    """With the alembic command, as developers use it: Alembic itself is not made for two threads."""
    first, second = await asyncio.gather(_alembic(side, empty_database), _alembic(side, empty_database))

    assert (first, second) == (0, 0)
    assert set(side.metadata.tables) <= await _tables(empty_database)


async def test_does_not_make_others_wait_behind_a_lock_it_cannot_have(empty_database: PostgresAddress) -> None:
    """Reverting needs the table for itself, and a reader has it: the migration gives up, the reader goes on."""
    await asyncio.to_thread(command.migrate, empty_database, "head")
    reader = await connect(empty_database, application="test")
    try:
        async with reader.transaction():
            await reader.fetch("SELECT * FROM users")
            with pytest.raises(Exception, match="lock timeout"):
                await asyncio.wait_for(asyncio.to_thread(command.revert, empty_database, "base"), BLOCKED_SECONDS)
            assert await reader.fetch("SELECT * FROM users") == []
    finally:
        await disconnect(reader)


_OLD_USER = """
INSERT INTO users (id, version, event_id, status, email, email_key, email_verified, username, username_key, attributes,
    password_hash, created_at, updated_at)
VALUES ($1, 1, $1, 'active', $2, $3, false, $1::uuid::text, $1::uuid::text, '{}', 'x', now(), now())
"""
_COLLATIONS = """
SELECT attname, collname FROM pg_attribute JOIN pg_collation ON pg_collation.oid = attcollation
WHERE attrelid = $1::regclass AND attnum > 0 AND collname <> 'default'
"""


def _differences(connection: Connection, metadata: MetaData) -> list[Any]:
    def ours(_: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
        return kind != "table" or name in metadata.tables or not (reflected and compare_to is None)

    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": True, "include_object": ours}
    )
    return list(compare_metadata(context, metadata))


async def _alembic(side: Side, address: PostgresAddress) -> int:
    variables = {
        "POSTGRES_SERVER": address.server,
        "POSTGRES_PORT": str(address.port),
        "POSTGRES_USER": address.user,
        "POSTGRES_PASSWORD": address.password.get_secret_value(),
        f"{side.name.upper()}_POSTGRES_DB": address.database,
    }
    clean = {name: value for name, value in os.environ.items() if "POSTGRES" not in name}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "alembic", "-n", side.name, "upgrade", "head"), cwd=ROOT, env={**clean, **variables}
    )
    return await asyncio.wait_for(process.wait(), BLOCKED_SECONDS)


async def _tables(address: PostgresAddress) -> set[str]:
    connection = await connect(address, application="test")
    try:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    finally:
        await disconnect(connection)
    return {row["tablename"] for row in rows}


async def test_keys_of_addresses_are_made_anew(
    empty_database: PostgresAddress, caplog: pytest.LogCaptureFixture
) -> None:
    # As the older release wrote them: the address normalised, and folded as any text for its key.
    typed = [
        "ann@example.com",
        "x@xn--mnchen-3ya.de",
        "y@STRAẞE.de",
        "Y@Bücher.de",
        "zoë@example.com",
        "x@\N{GREEK CAPITAL LETTER ALPHA}\N{GREEK SMALL LETTER FINAL SIGMA}.gr",
    ]
    emails = [validate_email(email)[1] for email in typed]
    await asyncio.to_thread(command.migrate, empty_database, "0005-1")
    connection = await connect(empty_database, application="test")
    try:
        for number, email in enumerate(emails):
            await connection.execute(_OLD_USER, UUID(int=number), email, text_key(email))
        old = await _keys(connection)
        await asyncio.to_thread(command.migrate, empty_database, "0005")
        new = await _keys(connection)
        # Two domains since, and one to the older release.
        await connection.execute(_OLD_USER, UUID(int=99), "y@strasse.de", email_key("y@strasse.de"))
        await asyncio.to_thread(command.revert, empty_database, "0005-1")
        back = await _keys(connection)
    finally:
        await disconnect(connection)

    assert new == {UUID(int=number): email_key(email) for number, email in enumerate(emails)}
    assert new[UUID(int=2)] == "y@xn--strae-oqa.de"
    assert back == old | {UUID(int=2): new[UUID(int=2)], UUID(int=99): "y@strasse.de"}
    assert [message for message in caplog.messages if "keeps the new key" in message] == [ANY]
    assert str(UUID(int=2)) in caplog.text


async def test_who_would_have_one_new_key_keeps_the_old_one_and_is_named(
    empty_database: PostgresAddress, caplog: pytest.LogCaptureFixture
) -> None:
    """Muster stores no such users; whoever writes to the table by themselves may."""
    stored = [
        ("y@b\u00fccher.de", "y@b\u00fccher.de"),
        ("y@bu\u0308cher.de", "y@bu\u0308cher.de"),
        ("z@xn--bcher-kva.de", "z@xn--bcher-kva.de"),
        ("z@b\u00fccher.de", "z@b\u00fccher.de"),
        ("free@b\u00fccher.de", "free@b\u00fccher.de"),
    ]
    await asyncio.to_thread(command.migrate, empty_database, "0005-1")
    connection = await connect(empty_database, application="test")
    try:
        for number, (email, key) in enumerate(stored):
            await connection.execute(_OLD_USER, UUID(int=number), email, key)
        old = await _keys(connection)
        await asyncio.to_thread(command.migrate, empty_database, "0005")
        new = await _keys(connection)
        await asyncio.to_thread(command.revert, empty_database, "0005-1")
        back = await _keys(connection)
    finally:
        await disconnect(connection)

    assert new == old | {UUID(int=4): "free@xn--bcher-kva.de"}
    named = [message for message in caplog.messages if "keeps the old key" in message]
    assert [str(UUID(int=number)) in message for number, message in zip((0, 1, 3), named, strict=True)] == [True] * 3
    assert not any("@" in message for message in named), "the log names nobody's address"
    assert back == old


async def _keys(connection: AsyncConnection) -> dict[UUID, str]:
    return {row["id"]: row["email_key"] for row in await connection.fetch("SELECT id, email_key FROM users")}


async def test_an_older_version_finds_the_bodies_of_all_answers(empty_database: PostgresAddress) -> None:
    await asyncio.to_thread(command.migrate, empty_database, "0007")
    connection = await connect(empty_database, application="test")
    try:
        await connection.execute(_OLD_USER, UUID(int=1), "ann@example.com", "ann@example.com")
        for record, body, digest in ((b"1", b"own", None), (b"2", None, b"d")):
            await connection.execute(
                "INSERT INTO idempotency_records (digest, subject_id, status, headers, body, body_digest)"
                " VALUES ($2, $1, 200, '{}', $3, $4)",
                *(UUID(int=1), record, body, digest),
            )
        await connection.execute("INSERT INTO idempotency_bodies VALUES ($1, 'd', 'shared', now())", UUID(int=1))
        await asyncio.to_thread(command.revert, empty_database, "0006")
        bodies = await connection.fetch("SELECT body FROM idempotency_records ORDER BY digest")
    finally:
        await disconnect(connection)

    assert [row["body"] for row in bodies] == [b"own", b"shared"]


async def test_answers_of_an_older_version_are_found_with_their_bodies(empty_database: PostgresAddress) -> None:
    await asyncio.to_thread(command.migrate, empty_database, "0006")
    connection = await connect(empty_database, application="test")
    try:
        await connection.execute(_OLD_USER, UUID(int=1), "ann@example.com", "ann@example.com")
        for digest, status, body in ((b"1", 200, b"whole"), (b"2", 204, None), (b"3", 410, None)):
            await connection.execute(
                "INSERT INTO idempotency_records (digest, fingerprint, subject_id, status, headers, body)"
                ' VALUES ($2, \'f\', $1, $3, \'{"ETag": "\\"1\\""}\', $4)',
                *(UUID(int=1), digest, status, body),
            )
        await asyncio.to_thread(command.migrate, empty_database, "0007")
        rows = [await connection.fetchrow(LOAD_ANSWER.sql, digest) for digest in (b"1", b"2", b"3")]
    finally:
        await disconnect(connection)

    found = [stored_answer(row) for row in rows]
    headers = {"ETag": '"1"'}
    assert found == [
        StoredAnswer(CommandAnswer(status, headers, body), b"f")
        for status, body in ((200, b"whole"), (204, None), (410, None))
    ]
