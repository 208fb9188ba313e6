"""`muster roles` and `muster migrate` as a person runs them on two empty databases."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from uuid import uuid4

import asyncpg
import pytest

from chassis.postgres.database import Connection, connect, disconnect
from chassis.postgres.roles import OPERATOR, PROJECTORS, QUERY, ROLES, roles_of
from chassis.settings import Kafka, PostgresAddress, Topics
from cli.roles.arrangement import arrange
from cli.roles.scram import verifier
from tests.conftest import create_database, database_address, drop_database
from tests.databases import PASSWORD, as_role
from tests.infrastructure import Servers
from tests.integration.muster_processes import environment, muster
from tests.waiting import until


@pytest.fixture
async def empty(servers: Servers) -> AsyncIterator[dict[str, PostgresAddress]]:
    """Two databases without roles and tables."""
    names = [f"{side}_{uuid4().hex[:12]}" for side in ("command", "query")]
    for name in names:
        await create_database(servers, name, "template1")
    yield {name.partition("_")[0]: database_address(servers, name) for name in names}
    for name in names:
        await drop_database(servers, name)


async def test_roles_and_then_migrations_by_the_owner_are_all_it_takes(
    empty: dict[str, PostgresAddress], kafka: Kafka
) -> None:
    told = environment(kafka, Topics(_env_file=None), empty["command"], empty["query"])
    maker = {
        "POSTGRES_USER": empty["query"].user,
        "POSTGRES_PASSWORD": empty["query"].password.get_secret_value(),
    }

    made = await muster(told | maker, "roles", "all", "--json")
    again = await muster(told | maker, "roles", "query")
    migrated = await muster(told, "migrate", "all")
    audited = await muster(told, "audit")

    assert (made.code, again.code, migrated.code, audited.code) == (0, 0, 0, 0), (made, again, migrated, audited)
    reports = json.loads(made.out)
    assert {(report["database"], report["role"]) for report in reports} == {
        (database, role) for role, (_, databases) in ROLES.items() for database in databases
    }
    assert all(report["password_set"] for report in reports)
    assert f"query: {QUERY} checked, password set" in again.out
    session = await connect(as_role(empty["query"], QUERY), application="test")
    try:
        assert await session.fetchval("SELECT count(*) FROM users_g1") == 0
        assert await session.fetchval("SELECT tableowner FROM pg_tables WHERE tablename = 'users_g1'") == PROJECTORS
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await session.execute("DELETE FROM users_g1")
    finally:
        await disconnect(session)


async def test_who_may_not_make_roles_is_told(empty: dict[str, PostgresAddress], kafka: Kafka) -> None:
    told = environment(kafka, Topics(_env_file=None), empty["command"], empty["query"])
    maker = {"POSTGRES_USER": OPERATOR, "POSTGRES_PASSWORD": told["OPERATOR_POSTGRES_PASSWORD"]}

    refused = await muster(told | maker, "roles", "query")
    wrong = await muster(told | maker | {"RELAY_POSTGRES_PASSWORD": "Paßwort"}, "roles", "command")

    assert refused.code == 1
    assert f"{OPERATOR}@" in refused.err
    assert "permission denied" in refused.err
    assert wrong.code == 2
    assert "RELAY_POSTGRES_PASSWORD must be printable ASCII" in wrong.err
    assert "Paßwort" not in wrong.err


async def test_a_database_that_is_missing_is_made_by_who_may(
    servers: Servers, empty: dict[str, PostgresAddress], kafka: Kafka
) -> None:
    missing = {side: f"missing_{side}_{uuid4().hex[:12]}" for side in ("command", "query")}
    told = environment(kafka, Topics(_env_file=None), empty["command"], empty["query"])
    told |= {f"{side.upper()}_POSTGRES_DB": name for side, name in missing.items()}
    maker = {"POSTGRES_USER": servers.postgres.user, "POSTGRES_PASSWORD": servers.postgres.password}
    try:
        # One role's name is everywhere the same: who makes the roles of another database there gets in the way.
        both = await asyncio.gather(*(muster(told | maker, "roles", side) for side in missing))
        migrated = await muster(told, "migrate", "all")
        refused = await muster(told | {"QUERY_POSTGRES_DB": "nowhere"}, "migrate", "query")
    finally:
        for name in missing.values():
            await drop_database(servers, name)

    assert [each.code for each in (*both, migrated)] == [0, 0, 0], (both, migrated)
    assert refused.code == 1
    assert 'may not make one: as a superuser CREATE DATABASE "nowhere"' in refused.err


async def test_two_that_make_roles_on_one_server_at_once_do_not_collide(
    empty: dict[str, PostgresAddress],
) -> None:
    """Roles are of the whole server, so a role of the other database's may be made between a look and its making."""
    passwords = {role: verifier(PASSWORD) for role in roles_of("command")}
    first, second = [await connect(empty[side], application="test") for side in ("command", "query")]
    try:
        holding = first.transaction()
        await holding.start()
        await first.execute(f"ALTER ROLE {OPERATOR} PASSWORD '{passwords[OPERATOR]}'")
        waiting = asyncio.create_task(arrange(second, "query", {OPERATOR: passwords[OPERATOR]}))
        await until(partial(_waits, first), within=10, what="the second waits for the first")
        await holding.commit()
        reports = await waiting
    finally:
        await disconnect(first)
        await disconnect(second)

    assert {report.role for report in reports} == set(roles_of("query"))


async def _waits(connection: Connection) -> bool:
    return bool(await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))


async def test_one_user_can_still_do_everything(empty: dict[str, PostgresAddress], kafka: Kafka) -> None:
    told = environment(kafka, Topics(_env_file=None), empty["command"], empty["query"])
    one = {name: value for name, value in told.items() if not name.endswith(("POSTGRES_USER", "POSTGRES_PASSWORD"))}
    one |= {
        "POSTGRES_USER": empty["query"].user,
        "POSTGRES_PASSWORD": empty["query"].password.get_secret_value(),
    }

    migrated, audited = await muster(one, "migrate", "all"), await muster(one, "audit")

    assert (migrated.code, audited.code) == (0, 0), (migrated, audited)
    session = await connect(empty["query"], application="test")
    try:
        owners = await session.fetch("SELECT DISTINCT tableowner AS name FROM pg_tables WHERE schemaname = 'public'")
        assert [owner["name"] for owner in owners] == [empty["query"].user]
    finally:
        await disconnect(session)
