"""The erased, by which record, and by when the log forgets them: the `users` projection's table and the looks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from chassis.postgres.database import Connection, Database
from chassis.settings import Topics
from read_model.users import ERASED_WHEN, SCHEMA, users_tables

#: Brokers look for what is to be cleaned every 15 s, and clean in seconds; a test's topic has no longer lags than that.
_LEAST_GRACE: Final = timedelta(minutes=1)

# The older generation is fed for a while where another version has taken over.
_GENERATION: Final = """
SELECT generation FROM generations WHERE projection = $1 AND shape = $2 AND status IN ('serving', 'standby')
ORDER BY status = 'serving' DESC, changed_at DESC LIMIT 1
"""
_SERVING_SHAPE: Final = "SELECT shape FROM generations WHERE projection = $1 AND status = 'serving'"
_COLUMNS: Final = """
e.id, e.erased_at, e.topic, e.topic_id, e.partition, e.record_offset, e.published_at,
coalesce(l.expected_by, e.published_at + $2),
l.forgotten FROM {erased} e
LEFT JOIN erasure_looks l ON l.user_id = e.id AND l.topic_id IS NOT DISTINCT FROM e.topic_id
"""
_FIND: Final = f"SELECT {_COLUMNS} WHERE e.id = $1"
_PAGE: Final = f"""
SELECT {_COLUMNS}
WHERE $1::uuid IS NULL OR ({ERASED_WHEN}, e.id) < (SELECT {ERASED_WHEN}, id FROM {{erased}} WHERE id = $1)
ORDER BY {ERASED_WHEN} DESC, e.id DESC LIMIT $3
"""  # noqa: S608 - our names
# Settings may change: what was said first stands. Of another log nothing was said.
NOTE: Final = """
INSERT INTO erasure_looks AS l (user_id, expected_by, topic_id) SELECT id, published_at + $2, topic_id FROM {erased} e
WHERE published_at IS NOT NULL AND ($1::uuid IS NULL OR id = $1) AND NOT EXISTS (
    SELECT FROM erasure_looks known WHERE known.user_id = e.id AND known.topic_id IS NOT DISTINCT FROM e.topic_id
)
ON CONFLICT (user_id) DO UPDATE SET
    expected_by = excluded.expected_by, topic_id = excluded.topic_id, looked_at = NULL, forgotten = NULL
WHERE l.topic_id IS DISTINCT FROM excluded.topic_id
"""


class NoReadTableError(Exception):
    """No generation of the users' read tables has the shape that this version reads."""


@dataclass(frozen=True, slots=True)
class Erasure:
    """One erasure. Times and places are None where a version before kept none."""

    user_id: UUID
    erased_at: datetime | None
    topic: str | None
    #: The log of that name that it is on.
    topic_id: UUID | None
    partition: int | None
    offset: int | None
    #: When the record was appended, by the broker.
    published_at: datetime | None
    #: The time by which the log has forgotten the person.
    expected_by: datetime | None
    #: The finding of a look at the log after that; None before it.
    forgotten: bool | None


def time_to_forget(topics: Topics) -> timedelta:
    """The time after a tombstone by which its person's events are gone from the topic, at the latest.

    Kafka cleans up to the tombstone once its segment is closed and TOPIC_MIN_COMPACTION_LAG_MS old, and must after
    TOPIC_MAX_COMPACTION_LAG_MS. A segment is closed when it is TOPIC_SEGMENT_MS old and something comes: at a quiet
    partition what the relay writes, every quarter of TOPIC_MAX_COMPACTION_LAG_MS, which is also the grace for cleaning.
    """
    longest, least, segment = (
        timedelta(milliseconds=value)
        for value in (
            topics.topic_max_compaction_lag_ms,
            topics.topic_min_compaction_lag_ms,
            topics.topic_segment_ms,
        )
    )
    return max(longest, segment + least) + max(longest / 4, _LEAST_GRACE)


async def erased_table(connection: Connection) -> str:
    """The table of the erased to read now.

    Raises:
        NoReadTableError: there is none of this version's shape.
    """
    generation = await connection.fetchval(_GENERATION, SCHEMA.name, SCHEMA.shape)
    if generation is None:
        raise NoReadTableError(_why_none(await connection.fetchval(_SERVING_SHAPE, SCHEMA.name)))
    return users_tables(generation).erased.name


def _why_none(serving: int | None) -> str:
    """What to do where there is none of this version's shape; `serving` is the shape of what serves, if anything."""
    if serving is None:
        return f"no generation of {SCHEMA.name} serves: run `muster migrate query`"
    shapes = f"what serves of {SCHEMA.name} has shape {serving}, this version reads shape {SCHEMA.shape}"
    if serving > SCHEMA.shape:
        return f"{shapes}: a newer version has taken over, whose event API answers"
    return f"{shapes}: run `muster rebuild {SCHEMA.name}` from this version"


class ErasureStore:
    """Reads erasures; every method raises NoReadTableError and DatabaseUnavailableError."""

    def __init__(self, database: Database, wait: timedelta) -> None:
        """`wait` is `time_to_forget`."""
        self._database, self._wait = database, wait

    async def find(self, user_id: UUID) -> Erasure | None:
        """The erasure of a user; from now on it is known by when the log forgets them."""
        async with self._reading() as (connection, table):
            await connection.execute(NOTE.format(erased=table), user_id, self._wait)
            row = await connection.fetchrow(_FIND.format(erased=table), user_id, self._wait)
        return None if row is None else Erasure(*row.values())

    async def page(self, before: UUID | None, limit: int) -> list[Erasure]:
        """The newest erasures, or those before this user's, newest first; none where nobody of that id was erased."""
        async with self._reading() as (connection, table):
            rows = await connection.fetch(_PAGE.format(erased=table), before, self._wait, limit)
        return [Erasure(*row.values()) for row in rows]

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[tuple[Connection, str]]:
        """A connection, and the table of the erased."""
        try:
            async with self._database.connection() as connection:
                yield connection, await erased_table(connection)
        except asyncpg.UndefinedTableError as error:
            # The generation was retired after it had been looked up.
            raise NoReadTableError("the read tables were just replaced; ask again") from error
