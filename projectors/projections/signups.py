"""The `signups` projection: users that exist, by UTC day of registration and status.

It counts states, not events: each user's row says on which counter the user is now, so replays and a compacted log give
the same sums. Counters of a day are shared by all members: each batch adds its differences in one statement, in the
order of days, so that members wait for each other but never in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

from projectors.decoding.records import Change
from projectors.projections.projection import CarryOver, Projection, newest
from read_model import signups
from read_model.generations import Connection

#: Sums of days, looked at by people: as for the timeline.
PATIENCE_MS: Final = 100
# Who may write a user's row holds that user's checkpoint, so what `input` reads cannot change under it. It looks users
# up row by row: joined otherwise, all of a table that is not yet large would be read for every batch of a rebuild.
_APPLY: Final = """
WITH input AS MATERIALIZED (
    SELECT i.*, u.day AS old_day, u.status AS old_status
    FROM unnest($1::uuid[], $2::bigint[], $3::date[], $4::text[]) AS i (id, version, day, status)
    LEFT JOIN LATERAL (SELECT * FROM {users} known WHERE known.id = i.id LIMIT 1) u ON true
    WHERE u.version IS NULL OR u.version < i.version
), written AS (
    INSERT INTO {users} AS t (id, version, day, status) SELECT id, version, day, status FROM input
    ON CONFLICT (id) DO UPDATE SET version = excluded.version, day = excluded.day, status = excluded.status
    WHERE t.version < excluded.version
), steps AS (
    SELECT day, status, 1 AS step FROM input WHERE day IS NOT NULL
    UNION ALL SELECT old_day, old_status, -1 FROM input WHERE old_day IS NOT NULL
), differences AS (
    SELECT day,
        coalesce(sum(step) FILTER (WHERE status = 'active'), 0) AS active,
        coalesce(sum(step) FILTER (WHERE status = 'deactivated'), 0) AS deactivated
    FROM steps GROUP BY day
)
INSERT INTO {days} AS t (day, active, deactivated)
SELECT day, active, deactivated FROM differences WHERE active <> 0 OR deactivated <> 0 ORDER BY day
ON CONFLICT (day) DO UPDATE SET
    active = t.active + excluded.active, deactivated = t.deactivated + excluded.deactivated
"""

_CARRY_ERASED: Final = """
INSERT INTO {users} (id, version) SELECT id, version FROM {old_users}
WHERE day IS NULL AND id >= $1 AND ($2::uuid IS NULL OR id < $2)
ON CONFLICT DO NOTHING
"""


class SignupsWriter:
    """Writes one generation of the signups' tables."""

    def __init__(self, generation: int) -> None:
        """Name the tables of this generation."""
        tables = signups.signups_tables(generation)
        self._apply = _APPLY.format_map({"days": tables.days.name, "users": tables.users.name})

    def rows(self, changes: Sequence[Change]) -> None:
        """Never: nobody waits for these."""
        del changes

    async def apply(self, connection: Connection, changes: Sequence[Change]) -> None:
        """One statement, whatever the batch."""
        latest = newest(changes)
        users = [change.user for change in latest.values()]
        await connection.execute(
            self._apply,
            list(latest),
            [change.version for change in latest.values()],
            [None if user is None else date.fromisoformat(user.created_at[:10]) for user in users],
            [None if user is None else user.status for user in users],
        )


def carry_over(old: int, new: int) -> CarryOver:
    """The ids and last versions of the erased, of whom the log may know nothing any more."""
    names = {"users": signups.signups_tables(new).users.name, "old_users": signups.signups_tables(old).users.name}
    return CarryOver(names["old_users"], [_CARRY_ERASED.format_map(names)])


PROJECTION: Final = Projection(
    signups.SCHEMA.name, signups.SCHEMA.shape, signups.SCHEMA.channel, SignupsWriter, {1: carry_over}, PATIENCE_MS
)
