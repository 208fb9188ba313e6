"""`muster roles` and `muster migrate` as a person runs them on two empty databases."""

import json
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import pytest

from chassis.postgres.database import connect, disconnect
from chassis.postgres.roles import OPERATOR, PROJECTORS, QUERY, ROLES
from chassis.settings import Kafka, PostgresAddress, Topics
from tests.conftest import create_database, database_address, drop_database
from tests.databases import as_role
from tests.infrastructure import Servers
from tests.integration.muster_processes import environment, muster


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
