"""The relay's backlog, as `/metrics` and `muster lag` show it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from chassis.postgres.database import COMMAND_SECONDS

#: Counting reads rows. Above this many the planner's estimate is shown, so that counting never costs more.
COUNTED: Final = 10_000

# Rows that wait for one that a person has set aside are no work for the relay.
_TO_PUBLISH: Final = "FROM outbox WHERE (subject_id = ANY (ARRAY(SELECT subject_id FROM outbox_set_aside))) IS NOT TRUE"
_BACKLOG: Final = f"""
SELECT
    (SELECT count(*) FROM (SELECT {_TO_PUBLISH} LIMIT $1) AS seen) AS counted,
    (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'outbox'::regclass) AS estimated,
    (SELECT extract(epoch FROM clock_timestamp() - appended_at)::float8 {_TO_PUBLISH} ORDER BY id LIMIT 1) AS oldest,
    (SELECT count(*) FROM outbox_set_aside) AS set_aside,
    pg_total_relation_size('outbox') AS size
"""  # noqa: S608 - constants of ours


@dataclass(frozen=True, slots=True)
class Backlog:
    """Events that are to be published, and the age of the oldest in seconds (0 for none); rows that are set aside.

    `bytes` is the table's size on disk, with its indexes and with the room of rows that are gone.
    """

    events: int
    estimated: bool
    oldest_seconds: float
    set_aside: int
    bytes: int


async def read_backlog(connection: Any) -> Backlog:
    """Count the outbox's rows; estimate them where there are more than COUNTED."""
    row = await connection.fetchrow(_BACKLOG, COUNTED + 1, timeout=COMMAND_SECONDS)
    many = row["counted"] > COUNTED
    events = max(row["counted"], row["estimated"]) if many else row["counted"]
    return Backlog(
        events,
        estimated=many,
        oldest_seconds=max(0.0, row["oldest"] or 0.0),
        set_aside=row["set_aside"],
        bytes=row["size"],
    )
