"""The `signups` projection: users that exist, by UTC day of registration and status.

It counts states, not events. Each user's row says on which counter the user is now, so a replay and a compacted log
give the same sums. All members share the counters of a day: each batch adds its differences in one statement, in the
order of days, so that members wait for each other but never in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

from chassis.postgres.database import Connection
from projectors.decoding.records import DecodedEvent
from projectors.projections.projection import CarryOver, PresentState, Projection, erasures, newest
from projectors.projections.user_subject import USERS
from read_model import signups

#: People look at sums of days, and later: as for the timeline.
PATIENCE_MS: Final = 250
# The writer of a user's row holds that user's checkpoint, so what `input` reads cannot change meanwhile. `input` looks
# users up row by row: with a plain join, PostgreSQL would read all of a table that is not yet large, for every batch of
# a rebuild.
_APPLY: Final = """
WITH input AS MATERIALIZED (
    SELECT i.*, u.day AS old_day, u.status AS old_status
    FROM unnest($1::uuid[], $2::bigint[], $3::date[], $4::text[]) AS i (id, version, day, status)
    LEFT JOIN LATERAL (SELECT * FROM {users} known WHERE known.id = i.id LIMIT 1) u ON true
    WHERE u.version IS NULL OR u.version < i.version OR (i.day IS NULL AND u.day IS NOT NULL)
), written AS (
    INSERT INTO {users} AS t (id, version, day, status) SELECT id, version, day, status FROM input
    ON CONFLICT (id) DO UPDATE SET
        version = greatest(t.version, excluded.version), day = excluded.day, status = excluded.status
    WHERE t.version < excluded.version OR (excluded.day IS NULL AND t.day IS NOT NULL)
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

_RESET: Final = "DELETE FROM {users} WHERE id = $1"

_CARRY_ERASED: Final = """
INSERT INTO {users} AS t (id, version) SELECT id, version FROM {old_users}
WHERE day IS NULL AND id >= $1 AND ($2::uuid IS NULL OR id < $2)
ON CONFLICT (id) DO UPDATE SET version = excluded.version WHERE t.day IS NULL AND t.version < excluded.version
"""


class SignupsWriter:
    """Writes one generation of the signups' tables."""

    def __init__(self, generation: int) -> None:
        """Name the tables of this generation."""
        tables = signups.signups_tables(generation)
        names = {"days": tables.days.name, "users": tables.users.name}
        self._apply, self._reset = _APPLY.format_map(names), _RESET.format_map(names)

    def as_insert(self, events: Sequence[DecodedEvent]) -> None:
        """Never: nobody waits for these."""
        del events

    async def apply(self, connection: Connection, events: Sequence[DecodedEvent]) -> None:
        """One statement for the users who were erased, one for those who exist."""
        erased, rest = erasures(events)
        if erased:
            nothing = [None] * len(erased)
            await connection.execute(self._apply, list(erased), list(erased.values()), nothing, nothing)
        if rest:
            latest = newest(rest)
            states = [event.state for event in latest.values()]
            await connection.execute(
                self._apply,
                list(latest),
                [event.version for event in latest.values()],
                [date.fromisoformat(user.created_at[:10]) for user in states],
                [user.status for user in states],
            )

    async def reset(self, connection: Connection, state: PresentState) -> None:
        """Take the user from its counter, and forget it."""
        await connection.execute(self._apply, [state.subject_id], [state.version], [None], [None])
        await connection.execute(self._reset, state.subject_id)


def carry_over(old: int, new: int) -> CarryOver:
    """Take over the ids and last versions of the erased: the log may no longer have them."""
    names = {"users": signups.signups_tables(new).users.name, "old_users": signups.signups_tables(old).users.name}
    return CarryOver(names["old_users"], [_CARRY_ERASED.format_map(names)])


PROJECTION: Final = Projection(USERS, signups.SCHEMA, SignupsWriter, {1: carry_over}, PATIENCE_MS)
