"""An attempt costs the same however many counters there are, also where it was planned while there was none."""

import json

import pytest

from chassis.postgres.database import ONE_PLAN, connect, disconnect
from chassis.settings import PostgresAddress
from command_api.credentials.attempts import statements
from tests.plans import rows_looked_at

COUNTERS = 5000
FILL = """
INSERT INTO credential_attempts (counter, kind, failed_at, expires_at)
SELECT convert_to(n::text, 'UTF8'), 'identifier', ARRAY[now()], now() + interval '1 hour' FROM generate_series(1, $1) n
"""
LIMITS = "10, '1 hour', '{1 minute}', 100"
ATTEMPTS = {
    "charge": (statements.CHARGE_COUNTER, f"NULL, '7', 'identifier', {LIMITS}, true"),
    "load": (statements.CHARGE_BY_EMAIL, f"NULL, '7', 'identifier', {LIMITS}, 'ann@example.com', {'NULL, ' * 4}true"),
    "take back": (statements.TAKE_BACK, "'7', now(), 10, '{1 minute}', 100"),
    "forgive": (statements.FORGIVE, "'7', now()"),
}


@pytest.mark.parametrize("name", ATTEMPTS)
async def test_an_attempt_reads_its_own_counter(command_database: PostgresAddress, name: str) -> None:
    statement, values = ATTEMPTS[name]
    connection = await connect(command_database, application="test", **ONE_PLAN)
    try:
        await connection.execute("VACUUM ANALYZE credential_attempts")
        await connection.execute(f"PREPARE attempt AS {statement}")
        await connection.execute(f"EXECUTE attempt({values})")
        await connection.execute("DELETE FROM credential_attempts")
        await connection.execute(FILL, COUNTERS)

        answer = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE attempt({values})")
    finally:
        await disconnect(connection)

    assert rows_looked_at(json.loads(answer)[0]["Plan"]) <= 50
