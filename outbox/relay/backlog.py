"""How far the relay is behind, as `/metrics` and `muster lag` show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from chassis.postgres.database import COMMAND_SECONDS

#: Counting reads rows. Above this many the planner's estimate is shown, so that counting never costs more.
COUNTED: Final = 10_000

_BACKLOG: Final = """
SELECT
    (SELECT count(*) FROM (SELECT FROM outbox LIMIT $1) AS seen) AS counted,
    (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'outbox'::regclass) AS estimated,
    (SELECT extract(epoch FROM clock_timestamp() - appended_at)::float8 FROM outbox ORDER BY id LIMIT 1) AS oldest
"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Events that are committed and not yet published, and the age of the oldest in seconds (0 for none)."""

    events: int
    estimated: bool
    oldest_seconds: float


async def read_backlog(connection: Any) -> Backlog:
    """Count the outbox's rows; estimate them where there are more than COUNTED."""
    row = await connection.fetchrow(_BACKLOG, COUNTED + 1, timeout=COMMAND_SECONDS)
    many = row["counted"] > COUNTED
    events = max(row["counted"], row["estimated"]) if many else row["counted"]
    return Backlog(events, estimated=many, oldest_seconds=max(0.0, row["oldest"] or 0.0))
