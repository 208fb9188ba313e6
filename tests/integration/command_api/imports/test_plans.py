"""An import costs what its lines cost, also the first one, whose plans are made for hardly anybody."""

import json
from uuid import uuid4

import pytest

from chassis.settings import PostgresAddress
from command_api.http.dependencies import open_resources
from command_api.imports import store
from tests.integration.command_api.conftest import Connection, make_settings
from tests.plans import rows_looked_at

LINES = 50
USERS = 5000
REGISTER = """
INSERT INTO users (id, version, event_id, status, email, email_key, username, username_key, email_verified, attributes,
    created_at, updated_at)
SELECT gen_random_uuid(), 1, gen_random_uuid(), 'active', n || '@example.com', n || '@example.com', 'user' || n,
    'user' || n, false, '{}', now(), now()
FROM generate_series($1::int, $2) n
"""


def meetings(lines: int) -> str:
    ids, keys = ([f'"{uuid4()}"' for _ in range(lines)] for _ in range(2))
    return f"EXECUTE meetings('{{{','.join(ids)}}}', '{{{','.join(keys)}}}', '{{{','.join(keys)}}}')"


@pytest.mark.parametrize("users", [0, 3])
async def test_whom_a_batch_meets_is_found_by_index_where_it_was_planned_for_hardly_anybody(
    command_database: PostgresAddress, database: Connection, users: int
) -> None:
    await database.execute(REGISTER, 1, users)
    await database.execute("VACUUM ANALYZE users")
    async with (
        open_resources(make_settings(command_database)) as resources,
        resources.database.connection() as connection,
    ):
        await connection.execute(f"PREPARE meetings (uuid[], text[], text[]) AS {store._MEETINGS}")
        # Left alone, PostgreSQL makes the plan that it keeps at the sixth time.
        for _ in range(6):
            await connection.execute(meetings(LINES))
        await database.execute(REGISTER, users + 1, USERS)

        answer = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {meetings(LINES)}")

    assert rows_looked_at(json.loads(answer)[0]["Plan"]) <= 10 * LINES
