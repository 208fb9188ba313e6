"""An erasure costs the same however many are there, also where it was planned while there was hardly anybody."""

import json
from uuid import UUID, uuid4

import pytest

from chassis.postgres.database import ONE_PLAN, connect, disconnect
from chassis.settings import PostgresAddress
from projectors.projections.timeline import TimelineWriter
from projectors.projections.users import UsersWriter
from tests.plans import rows_looked_at

PEOPLE = 5000
ERASED = 10
#: Of each projection: its statement, the types of what is given, and how the tables are filled with people's ids.
ERASURES = {
    "users": (
        UsersWriter(1)._erase,
        "uuid[], bigint[], timestamptz[], text[], int[], bigint[], timestamptz[]",
        """
        INSERT INTO users_g1 (id, version, status, email_key, username_key, created_at, updated_at, document)
        SELECT id, 1, 'active', id::text, id::text, now(), now(), '{}' FROM unnest($1::uuid[]) id
        """,
        """
        INSERT INTO users_g1_erased (id, version) SELECT gen_random_uuid(), 1 FROM unnest($1::uuid[])
        """,
    ),
    "timeline": (
        TimelineWriter(1)._erase,
        "uuid[], bigint[]",
        "INSERT INTO timeline_g1_users (id, version) SELECT id, 1 FROM unnest($1::uuid[]) id",
        "INSERT INTO timeline_g1 (user_id, version, document) SELECT id, 1, '{}' FROM unnest($1::uuid[]) id",
    ),
}


def erasure(people: list[UUID], parameters: int) -> str:
    ids, versions = (f"'{{{','.join(map(str, each))}}}'" for each in (people, [2] * len(people)))
    nothing = f"'{{{','.join(['NULL'] * len(people))}}}'"
    return f"EXECUTE erase({', '.join([ids, versions, *[nothing] * (parameters - 2)])})"


@pytest.mark.parametrize("projection", ERASURES)
async def test_an_erasure_reads_those_whom_it_erases(query_database: PostgresAddress, projection: str) -> None:
    statement, types, *fill = ERASURES[projection]
    people = [uuid4() for _ in range(PEOPLE)]
    connection = await connect(query_database, application="test", **ONE_PLAN)
    try:
        for table in fill:
            await connection.execute(table, people[:3])
        await connection.execute("VACUUM ANALYZE")
        await connection.execute(f"PREPARE erase ({types}) AS {statement}")
        await connection.execute(erasure([uuid4()], types.count(",") + 1))
        for table in fill:
            await connection.execute(table, people[3:])

        explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {erasure(people[:ERASED], types.count(',') + 1)}"
        plan = json.loads(await connection.fetchval(explained))[0]["Plan"]
    finally:
        await disconnect(connection)

    assert rows_looked_at(plan) <= 20 * ERASED
