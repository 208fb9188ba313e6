"""Users by the million, the same on both sides, written by SQL as commands and projectors would have left them.

Ids grow with their number, as those of people who registered one after the other do. No events are left behind: the
outbox is empty and the projection's checkpoints stand at the topic's beginning.
"""

from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg

#: A million rows with their indexes take about twenty seconds; there may be ten.
FILL_SECONDS: Final = 1800.0
FIXED_HASH: Final = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g"
PARTITIONS: Final = 12

_FIRST_MS: Final = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp() * 1000)
_MS_BETWEEN: Final = 30_000
#: A number in the low bits that differs widely between neighbours, as random bits would (Knuth's multiplicative hash).
_SPREAD: Final = 2_654_435_761
_LOW_BITS: Final = 2**32

#: Users from $1 to $2, numbered by `n`. One in fifty is deactivated, and names are spread over the alphabet.
_PEOPLE: Final = f"""
    SELECT n, (lpad(to_hex({_FIRST_MS} + n::bigint * {_MS_BETWEEN}), 12, '0') || '70008000'
            || lpad(to_hex((n::bigint * {_SPREAD}) % {_LOW_BITS}), 12, '0'))::uuid AS id,
        CASE WHEN n % 50 = 0 THEN 'deactivated' ELSE 'active' END AS status,
        substr(md5(n::text), 1, 10) || n || '@example.com' AS email,
        substr(md5((n * 7::bigint)::text), 1, 8) || n AS username,
        timestamptz '2025-01-01Z' + make_interval(secs => n * 30) AS created_at
    FROM generate_series($1::int, $2::int) n
"""  # noqa: S608 - constants of this module
_COMMAND: Final = f"""
INSERT INTO users (id, version, event_id, status, email, email_key, email_verified, username, username_key,
    display_name, attributes, password_hash, created_at, updated_at)
SELECT id, 1, id, status, email, email, true, username, username, 'User Number ' || n,
    json_build_object('plan', 'basic', 'team', 't' || n % 100), '{FIXED_HASH}', created_at, created_at
FROM ({_PEOPLE}) AS people
"""  # noqa: S608 - as above
_QUERY: Final = f"""
INSERT INTO users_g1 (id, version, status, email_key, username_key, created_at, updated_at, document)
SELECT id, 1, status, email, username, created_at, created_at, convert_to(
    json_build_object('id', id, 'email', email, 'username', username, 'email_verified', true,
        'display_name', 'User Number ' || n, 'attributes', json_build_object('plan', 'basic', 'team', 't' || n % 100),
        'is_active', status = 'active', 'status', status, 'version', 1,
        'created_at', created_at, 'updated_at', created_at)::text, 'UTF8')
FROM ({_PEOPLE}) AS people
"""  # noqa: S608 - as above
_CHECKPOINTS: Final = """
INSERT INTO checkpoints (projection, generation, topic, partition, position, seen_until)
SELECT 'users', 1, $2::text, p, 0, now() FROM generate_series(0, $1::int - 1) p ON CONFLICT DO NOTHING
"""


def user_id(number: int) -> UUID:
    """Return the id of the n-th user, counted from one."""
    low = number * _SPREAD % _LOW_BITS
    return UUID(f"{_FIRST_MS + number * _MS_BETWEEN:012x}70008000{low:012x}")


async def fill_command(connection: asyncpg.Connection, users: int, *, first: int = 1) -> None:
    """Put users into the command database, from the `first` on until there are so many."""
    await connection.execute(numbered(_COMMAND, first, users), timeout=FILL_SECONDS)
    await connection.execute("VACUUM ANALYZE users", timeout=FILL_SECONDS)
    await connection.execute("CHECKPOINT", timeout=FILL_SECONDS)


async def fill_query(
    connection: asyncpg.Connection,
    users: int,
    *,
    first: int = 1,
    topic: str = "users.events",
    partitions: int = PARTITIONS,
) -> None:
    """Put users into the `users` projection; set missing checkpoints to the beginning of the topic."""
    await connection.execute(numbered(_QUERY, first, users), timeout=FILL_SECONDS)
    await connection.execute(_CHECKPOINTS, partitions, topic, timeout=FILL_SECONDS)
    await connection.execute("VACUUM ANALYZE users_g1", timeout=FILL_SECONDS)
    await connection.execute("CHECKPOINT", timeout=FILL_SECONDS)


def numbered(statement: str, first: int, last: int) -> str:
    """Put the numbers into the SQL; with parameters PostgreSQL could not plan for the number of rows."""
    return statement.replace("$1::int", str(int(first))).replace("$2::int", str(int(last)))
