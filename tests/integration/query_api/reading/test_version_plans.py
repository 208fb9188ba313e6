"""A look at versions costs the same however many users there are, also where it was planned for hardly anybody."""

import json
from uuid import UUID, uuid4

import pytest

from chassis.postgres.database import ONE_PLAN, connect, disconnect
from chassis.settings import PostgresAddress
from query_api.reading.versions import _reached_sql, behind_sql
from read_model.users import users_tables
from tests.plans import rows_looked_at

PEOPLE = 5000
WANTED = 10
FILL = """
INSERT INTO users_g1 (id, version, status, email_key, username_key, created_at, updated_at, document)
SELECT id, 1, 'active', id::text, id::text, now(), now(), '{}' FROM unnest($1::uuid[]) id
"""
STATEMENTS = {"behind": f"SELECT {behind_sql(users_tables(1), '$1', '$2')}", "reached": _reached_sql("users", 1)}


def look(people: list[UUID]) -> str:
    ids, versions = (f"'{{{','.join(map(str, each))}}}'" for each in (people, [1] * len(people)))
    return f"EXECUTE look({ids}, {versions})"


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_look_reads_those_whom_it_is_about(query_database: PostgresAddress, name: str) -> None:
    people = [uuid4() for _ in range(PEOPLE)]
    connection = await connect(query_database, application="test", **ONE_PLAN)
    try:
        await connection.execute(FILL, people[:3])
        await connection.execute("VACUUM ANALYZE")
        await connection.execute(f"PREPARE look (uuid[], bigint[]) AS {STATEMENTS[name]}")
        await connection.execute(look([uuid4()]))
        await connection.execute(FILL, people[3:])

        answer = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {look(people[:WANTED])}")
    finally:
        await disconnect(connection)

    assert rows_looked_at(json.loads(answer)[0]["Plan"]) <= 10 * WANTED
