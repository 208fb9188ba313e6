"""Every statement as every role: allowed where the table of grants says so, and refused everywhere else."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import pytest

from chassis.postgres.database import Connection, connect, disconnect
from chassis.postgres.roles import COMMAND, OPERATOR, OWNER, PROJECTORS, QUERY, RELAY, ROLES, DatabaseName, roles_of
from chassis.settings import PostgresAddress
from cli.roles.arrangement import ForeignRightsError, arrange, arrange_tables
from cli.roles.grants import CREATORS, FUNCTIONS, LEAVING, MEMBERS, READERS_OF_GENERATIONS, TABLES
from read_model.generations import begin
from tests.databases import as_role

#: Ways to touch one column. None finds a row.
OF_COLUMNS = {
    "SELECT": 'SELECT "{column}" FROM {table} WHERE false',
    "INSERT": 'INSERT INTO {table} ("{column}") OVERRIDING SYSTEM VALUE SELECT NULL WHERE false',
    "UPDATE": 'UPDATE {table} SET "{column}" = DEFAULT WHERE false',
}
#: Ways to touch a whole table; what GRANT has no word for is the owner's.
OF_TABLES = {
    "DELETE": "DELETE FROM {table} WHERE false",
    "TRUNCATE": "TRUNCATE {table} CASCADE",
    "ALTER": "ALTER TABLE {table} ADD COLUMN another int",
    "ANALYZE": "ALTER TABLE {table} SET (autovacuum_enabled = false)",
    "TRIGGER": "CREATE TRIGGER t BEFORE INSERT ON {table} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "POLICY": "CREATE POLICY another ON {table}",
    "INDEX": "CREATE INDEX ON {table} ((1))",
    "DROP": "DROP TABLE {table} CASCADE",
}
#: Ways to touch what numbers a table's rows; all are its owner's.
OF_SEQUENCES = ("SELECT nextval('{name}')", "SELECT setval('{name}', 9)", "SELECT * FROM {name}")
#: What is nobody's.
OF_NOBODY = (
    "SELECT rolpassword FROM pg_authid",
    "SELECT passwd FROM pg_shadow",
    "CREATE ROLE another",
    "CREATE SCHEMA another",
    "CREATE TEMPORARY TABLE another (id int)",
    "ALTER ROLE CURRENT_USER SUPERUSER",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "SELECT pg_read_file('postgresql.conf')",
    "SELECT pg_reload_conf()",
    "SELECT lo_create(0)",
    "SELECT lo_creat(-1)",
    "SELECT lo_from_bytea(0, 'text')",
)
_TABLES = """
SELECT relname AS table, pg_get_userbyid(relowner) AS owner, array_agg(attname::text) AS columns
FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'f') AND attnum > 0 AND NOT attisdropped
GROUP BY 1, 2 ORDER BY 1
"""
_SEQUENCES = """
SELECT oid::regclass::text AS name, pg_get_userbyid(relowner) AS owner FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind = 'S'
"""
_FUNCTIONS = """
SELECT oid::regprocedure::text AS name, pg_get_userbyid(proowner) AS owner FROM pg_proc
WHERE pronamespace = 'public'::regnamespace
"""


@dataclass(frozen=True)
class Arranged:
    """A database as `muster roles` leaves it, and a superuser's session on it."""

    name: DatabaseName
    address: PostgresAddress
    session: Connection

    async def may(self, role: str, statement: str) -> bool:
        """Try a statement as a role, and undo it; raises what is wrong beside rights."""
        try:
            await self.session.execute(f"BEGIN; SET LOCAL SESSION AUTHORIZATION {role}; {statement}")
        except asyncpg.InsufficientPrivilegeError:
            return False
        finally:
            await self.session.execute("ROLLBACK")
        return True


@asynccontextmanager
async def arranged(name: DatabaseName, address: PostgresAddress) -> AsyncIterator[Arranged]:
    session = await connect(address, application="test")
    try:
        await arrange(session, name, {})
        yield Arranged(name, address, session)
    finally:
        await disconnect(session)


@pytest.fixture
async def command(command_database: PostgresAddress) -> AsyncIterator[Arranged]:
    async with arranged("command", command_database) as database:
        yield database


@pytest.fixture
async def query(query_database: PostgresAddress) -> AsyncIterator[Arranged]:
    async with arranged("query", query_database) as database:
        yield database


def _granted(database: DatabaseName, table: str, owner: str, role: str, columns: list[str]) -> set[tuple[str, str]]:
    """What a role may do with a table by the one table of grants: privilege and column, `*` for the whole."""
    if role == owner or role in MEMBERS.get(owner, ()):
        return {(way, column) for way in OF_COLUMNS for column in columns} | {(way, "*") for way in OF_TABLES}
    if owner == PROJECTORS:
        granted = "SELECT" if role in READERS_OF_GENERATIONS else ""
    else:
        holders = [role, *(of for of, members in MEMBERS.items() if role in members)]
        granted = ", ".join(filter(None, (TABLES[database][table].get(holder) for holder in holders)))
    found = set()
    for way, listed in re.findall(r"([A-Z]+)(?: \(([^)]*)\))?", granted):
        named = listed.split(", ") if listed else columns if way in OF_COLUMNS else ["*"]
        found |= {(way, column) for column in named}
    return found


async def _found(database: Arranged, table: str, role: str, columns: list[str]) -> set[tuple[str, str]]:
    tried = {(way, name): sql.format(table=table, column=name) for way, sql in OF_COLUMNS.items() for name in columns}
    tried |= {(way, "*"): sql.format(table=table) for way, sql in OF_TABLES.items()}
    return {what for what, statement in tried.items() if await database.may(role, statement)}


async def _expect_the_table_of_grants(database: Arranged) -> None:
    tables = await database.session.fetch(_TABLES)
    assert {table["table"] for table in tables if table["owner"] == OWNER} == set(TABLES[database.name])
    assert {table["owner"] for table in tables} <= {OWNER, PROJECTORS}
    for table in tables:
        name, owner, columns = table["table"], table["owner"], table["columns"]
        for role in ROLES:
            wanted = _granted(database.name, name, owner, role, columns)
            assert await _found(database, name, role, columns) == wanted, (role, name)


async def test_every_statement_on_the_command_database_is_allowed_or_refused_as_the_table_says(
    command: Arranged,
) -> None:
    await _expect_the_table_of_grants(command)


async def test_every_statement_on_the_query_database_is_allowed_or_refused_as_the_table_says(
    query: Arranged,
) -> None:
    await _expect_the_table_of_grants(query)


async def test_what_numbers_the_rows_is_the_owners_alone(command: Arranged, query: Arranged) -> None:
    for database in (command, query):
        sequences = await database.session.fetch(_SEQUENCES)
        assert sequences
        for name, owner in sequences:
            tried = [statement.format(name=name) for statement in OF_SEQUENCES]
            owners = {owner, *MEMBERS.get(owner, ())}
            assert owner in {OWNER, PROJECTORS}
            for role in ROLES:
                found = [statement for statement in tried if await database.may(role, statement)]
                assert found == (tried if role in owners else []), (role, name)


async def test_a_function_is_called_by_those_in_the_table_alone(command: Arranged, query: Arranged) -> None:
    for database in (command, query):
        functions = {row["name"]: row["owner"] for row in await database.session.fetch(_FUNCTIONS)}
        assert functions == dict.fromkeys(FUNCTIONS[database.name], OWNER)
    for role in ROLES:
        [(name, callers)] = FUNCTIONS["command"].items()
        assert await command.may(role, "SELECT forget_held_back(gen_random_uuid())") == (role in {OWNER, *callers})
        assert await command.may(role, f"ALTER FUNCTION {name} RESET ALL") == (role == OWNER)
        assert await command.may(role, f"DROP FUNCTION {name}") == (role == OWNER)


async def test_no_events_are_deleted_of_whoever_is_there_nor_what_is_not_held_back(command: Arranged) -> None:
    """What a command API that was taken over can still do to the outbox: what an erasure does, with the person."""
    there, gone = await _with_damaged_events(command, "there"), await _with_damaged_events(command, "gone")
    await command.session.execute("DELETE FROM users WHERE id = $1", gone)
    forget = "SELECT forget_held_back('{}')"

    assert not await command.may(COMMAND, forget.format(there))
    assert await command.may(COMMAND, forget.format(gone))
    await command.session.execute(
        f"SET SESSION AUTHORIZATION {COMMAND}; {forget.format(gone)}; RESET SESSION AUTHORIZATION"
    )
    left = await command.session.fetch("SELECT subject_id, damage IS NULL AS is_whole FROM outbox ORDER BY id")
    assert [tuple(row) for row in left] == [(there, True), (there, False), (there, True), (gone, True)]


async def _with_damaged_events(command: Arranged, name: str) -> UUID:
    """A user with three events, of which the second is damaged."""
    user_id = await command.session.fetchval(
        "INSERT INTO users (id, version, event_id, status, email, email_key, email_verified, username, username_key,"
        " display_name, attributes, created_at, updated_at, password_hash) VALUES (gen_random_uuid(), 3,"
        " gen_random_uuid(), 'active', $1, $1, false, $1, $1, $1, '{}', now(), now(), 'x') RETURNING id",
        name,
    )
    for damage in (None, "a test says so", None):
        await command.session.execute(
            "INSERT INTO outbox (event_id, subject_id, value, headers, damage)"
            " VALUES (gen_random_uuid(), $1, '{}', '', $2)",
            user_id,
            damage,
        )
    return UUID(str(user_id))


async def test_a_generation_that_an_operator_makes_belongs_to_the_projectors_and_is_read_by_queries(
    query: Arranged,
) -> None:
    operator = await connect(as_role(query.address, OPERATOR), application="test")
    try:
        await begin(operator, "timeline")
    finally:
        await disconnect(operator)

    await _expect_the_table_of_grants(query)
    owners = {
        table["owner"] for table in await query.session.fetch(_TABLES) if table["table"].startswith("timeline_g2")
    }
    assert owners == {PROJECTORS}


async def test_only_owners_make_tables_and_nobody_does_what_is_the_servers(command: Arranged, query: Arranged) -> None:
    for database in (command, query):
        makers = {role for role in ROLES if await database.may(role, "CREATE TABLE another (id int)")}
        assert makers == {*CREATORS[database.name], *(() if database is command else MEMBERS[PROJECTORS])}
        for role in ROLES:
            assert [statement for statement in OF_NOBODY if await database.may(role, statement)] == []
        assert not await database.session.fetchval(
            "SELECT count(*) FROM pg_roles WHERE rolname = ANY($1)"
            " AND (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)",
            list(ROLES),
        )


async def test_a_role_becomes_another_only_where_it_is_a_member(command: Arranged) -> None:
    for role in ROLES:
        others = {other for other in (*ROLES, "muster") if other != role}
        found = {other for other in others if await command.may(role, f"SET LOCAL ROLE {other}")}
        assert found == {of for of, members in MEMBERS.items() if role in members}


async def test_nobody_may_pass_a_right_on(command: Arranged, query: Arranged) -> None:
    for database in (command, query):
        assert not await database.session.fetchval(
            "SELECT count(*) FROM pg_class, aclexplode(relacl) AS granted"
            " WHERE relnamespace = 'public'::regnamespace AND is_grantable AND grantee <> relowner"
        )


async def test_a_role_connects_to_its_databases_alone(command: Arranged, query: Arranged) -> None:
    for database in (command, query):
        for role in ROLES:
            if role in roles_of(database.name):
                await disconnect(await connect(as_role(database.address, role), application="test"))
            else:
                with pytest.raises(asyncpg.InsufficientPrivilegeError, match="CONNECT"):
                    await connect(as_role(database.address, role), application="test")


async def test_a_repeat_takes_what_was_given_beyond_the_table(command: Arranged) -> None:
    await command.session.execute(
        f"GRANT SELECT, DELETE ON users TO {OPERATOR}; ALTER ROLE {RELAY} CREATEDB;"
        f" GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {RELAY}, PUBLIC;"
        f" GRANT ALL ON ALL FUNCTIONS IN SCHEMA public TO {RELAY}, PUBLIC"
    )
    assert await command.may(OPERATOR, "SELECT password_hash FROM users")
    assert await command.may(RELAY, "SELECT nextval('outbox_id_seq')")
    assert await command.may(RELAY, "SELECT forget_held_back(gen_random_uuid())")

    await arrange(command.session, "command", {})

    assert not await command.may(OPERATOR, "SELECT password_hash FROM users")
    assert not await command.may(OPERATOR, "DELETE FROM users WHERE false")
    assert not await command.may(RELAY, "SELECT nextval('outbox_id_seq')")
    assert not await command.may(RELAY, "SELECT forget_held_back(gen_random_uuid())")
    assert not await command.session.fetchval("SELECT rolcreatedb FROM pg_roles WHERE rolname = $1", RELAY)


async def test_who_has_what_the_release_before_uses_keeps_it_and_nobody_is_given_it(command: Arranged) -> None:
    """A command API of that release serves on beside this one, and erases people."""
    erasing = "DELETE FROM outbox WHERE subject_id = gen_random_uuid() AND damage IS NOT NULL"
    aside = "DELETE FROM outbox_set_aside WHERE subject_id = gen_random_uuid()"
    leaving = LEAVING["command"]

    for table, given in leaving.items():
        for role, rights in given.items():
            assert not await command.may(role, f"DELETE FROM {table} WHERE false")
            await command.session.execute(f"GRANT {rights} ON {table} TO {role}")
    await arrange(command.session, "command", {})
    await arrange_tables(command.session, "command")

    assert set(leaving) == {"outbox", "outbox_set_aside"}
    assert await command.may(COMMAND, erasing)
    assert await command.may(COMMAND, aside)


async def test_a_membership_that_gives_more_is_told_and_changes_nothing(query: Arranged) -> None:
    await query.session.execute(f"GRANT pg_read_all_data TO {QUERY}")
    try:
        with pytest.raises(ForeignRightsError, match=f"REVOKE pg_read_all_data FROM {QUERY}"):
            await arrange(query.session, "query", {})
    finally:
        await query.session.execute(f"REVOKE pg_read_all_data FROM {QUERY}")


async def test_a_database_of_one_user_is_handed_over_with_all_its_tables(command: Arranged) -> None:
    for table in TABLES["command"]:
        await command.session.execute(f"ALTER TABLE {table} OWNER TO CURRENT_USER")
    for function in FUNCTIONS["command"]:
        await command.session.execute(f"ALTER FUNCTION {function} OWNER TO CURRENT_USER")
    assert not await command.may(OWNER, "ALTER TABLE users ADD COLUMN another int")

    await arrange(command.session, "command", {})

    await _expect_the_table_of_grants(command)
    assert await command.may(COMMAND, "SELECT 1 FROM users")
    owners = {row["owner"] for row in await command.session.fetch(f"{_SEQUENCES} UNION ALL {_FUNCTIONS}")}
    assert owners == {OWNER}
