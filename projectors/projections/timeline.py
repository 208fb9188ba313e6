"""The `timeline` projection: what changed for each user, and when.

Every change leaves an entry. So this projection, unlike the others, needs the whole log: a rebuild takes over from the
generation before what the topic has lost (`carry_over`). A snapshot is no history: it only says how far the user is,
and queries show as a gap what is missing before that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from pydantic_core import from_json, to_json

from chassis.postgres.database import Connection
from events.catalogue import short_name
from events.envelope import Envelope
from events.times import rfc3339
from events.user_events import UserSnapshot
from projectors.decoding.records import DecodedEvent, time_of
from projectors.projections.projection import CarryOver, PresentState, Projection, erasures, newest
from projectors.projections.user_subject import USERS
from read_model import timeline

#: People look at histories, and later. Nearly all that a batch costs, it costs whatever it holds: with ten a second,
#: this projection and `signups` took 1.4 times the CPU for 200 events a second, PostgreSQL's and the broker's with it.
PATIENCE_MS: Final = 250
_SNAPSHOT: Final = UserSnapshot.type()
# Versions are looked up row by row: with a join, PostgreSQL would read all of a table that is not yet large, for every
# batch of a rebuild.
_HEADS: Final = """
INSERT INTO {users} AS t (id, version) SELECT i.* FROM unnest($1::uuid[], $2::bigint[]) AS i (id, version)
WHERE i.version > coalesce((SELECT u.version FROM {users} u WHERE u.id = i.id), 0)
ON CONFLICT (id) DO UPDATE SET version = excluded.version WHERE t.version < excluded.version
"""

#: Columns of an entry since shape 1, and since shape 2.
_SHAPE_1: Final = "user_id, version, document"
_SHAPE_2: Final = f"{_SHAPE_1}, actor, on_behalf_of, partition, record_offset, committed_at, published_at, applied_at"

_ENTRIES: Final = """
INSERT INTO {entries} ({columns}) SELECT i.*, now()
FROM unnest($1::uuid[], $2::bigint[], $3::bytea[], $4::text[], $5::text[], $6::int[], $7::bigint[], $8::timestamptz[],
    $9::timestamptz[]) AS i (user_id, version)
WHERE i.version > coalesce((SELECT u.erased_version FROM {users} u WHERE u.id = i.user_id), 0)
ON CONFLICT DO NOTHING
"""

_ERASE: Final = """
WITH gone AS (SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS i (id, version)),
removed AS (DELETE FROM {entries} WHERE user_id = ANY ($1::uuid[]))
INSERT INTO {users} AS t (id, version, erased_version) SELECT id, version, version FROM gone
WHERE (
    SELECT u.erased_version = u.version AND u.version >= gone.version FROM {users} u WHERE u.id = gone.id
) IS NOT TRUE
ON CONFLICT (id) DO UPDATE SET
    version = greatest(t.version, excluded.version), erased_version = greatest(t.version, excluded.version)
"""

# Older entries are history and stay. An entry of that version that tells of another event is not ours.
_RESET: Final = """
WITH heads AS (DELETE FROM {users} WHERE id = $1)
DELETE FROM {entries} WHERE user_id = $1 AND (
    version > $2 OR (version = $2 AND convert_from(document, 'UTF8')::json ->> 'event_id' <> $3::text)
)
"""

# The new generation has read the whole log. So it knows every user who exists, if only by a parked record, and only
# their entries are taken over.
_CARRY_ENTRIES: Final = """
INSERT INTO {entries} ({columns})
SELECT {columns} FROM {old_entries} e LEFT JOIN (SELECT id, erased_version FROM {users}) u ON u.id = e.user_id
WHERE e.user_id >= $1 AND ($2::uuid IS NULL OR e.user_id < $2)
    AND e.version > coalesce(u.erased_version, 0)
    AND (u.id IS NOT NULL OR EXISTS (
        SELECT FROM parked_records p
        WHERE p.projection = '{projection}' AND p.generation = {generation} AND p.user_id = e.user_id
    ))
ON CONFLICT DO NOTHING
"""

_CARRY_ERASED: Final = """
INSERT INTO {users} AS t (id, version, erased_version)
SELECT id, version, erased_version FROM {old_users}
WHERE erased_version = version AND id >= $1 AND ($2::uuid IS NULL OR id < $2)
ON CONFLICT (id) DO UPDATE SET version = excluded.version, erased_version = excluded.erased_version
WHERE t.erased_version = t.version AND t.version < excluded.version
"""


class TimelineWriter:
    """Writes one generation of the timeline's tables."""

    def __init__(self, generation: int) -> None:
        """Name the tables of this generation."""
        tables = timeline.timeline_tables(generation)
        names = {"entries": tables.entries.name, "users": tables.users.name, "columns": _SHAPE_2}
        self._heads, self._entries, self._erase, self._reset = (
            sql.format_map(names) for sql in (_HEADS, _ENTRIES, _ERASE, _RESET)
        )

    def as_insert(self, events: Sequence[DecodedEvent]) -> None:
        """Never: nobody waits for these."""
        del events

    async def apply(self, connection: Connection, events: Sequence[DecodedEvent]) -> None:
        """Erasures first: an event before one is then not written at all, and one behind it is no longer refused."""
        erased, living = erasures(events)
        if erased:
            await connection.execute(self._erase, list(erased), list(erased.values()))
        if living:
            heads = newest(living)
            await connection.execute(self._heads, list(heads), [event.version for event in heads.values()])
        if history := [event for event in living if event.type != _SNAPSHOT]:
            await connection.execute(self._entries, *zip(*map(_row, history), strict=True))

    async def reset(self, connection: Connection, state: PresentState) -> None:
        """Forget the user's head, and entries that cannot be history of this state."""
        await connection.execute(self._reset, state.subject_id, state.version, str(state.event_id))


def _row(event: DecodedEvent) -> tuple[Any, ...]:
    """The columns of an entry, but the time at which it is applied."""
    envelope, record = event.envelope, event.record
    return (
        event.subject_id,
        event.version,
        entry(event, envelope),
        envelope.actor,
        envelope.on_behalf_of,
        record.partition,
        record.offset,
        envelope.time,
        time_of(record),
    )


def entry(event: DecodedEvent, envelope: Envelope) -> bytes:
    """The change of one event, as the query API sends it."""
    previous = event.previous
    user = from_json(event.document) if previous else {}
    return to_json(
        {
            "event_id": str(envelope.event_id),
            "type": short_name(event.type),
            "version": event.version,
            "time": rfc3339(envelope.time),
            "changes": {name: {"from": old, "to": user.get(name)} for name, old in previous.items()},
            "reason": event.reason,
        },
        # A number beyond the range of JSON's readers; the command API lets none in.
        inf_nan_mode="null",
    )


def carry_over(old: int, new: int, columns: str = _SHAPE_2) -> CarryOver:
    """Take over the entries of users that exist, and the ids and last versions of the erased."""
    before, after = timeline.timeline_tables(old), timeline.timeline_tables(new)
    names = {
        "projection": timeline.SCHEMA.name,
        "generation": str(new),
        "entries": after.entries.name,
        "users": after.users.name,
        "old_entries": before.entries.name,
        "old_users": before.users.name,
        "columns": columns,
    }
    return CarryOver(names["old_users"], [_CARRY_ENTRIES.format_map(names), _CARRY_ERASED.format_map(names)])


_CARRY_OVER: Final[dict[int, Callable[[int, int], CarryOver]]] = {
    1: partial(carry_over, columns=_SHAPE_1),
    2: carry_over,
}
PROJECTION: Final = Projection(USERS, timeline.SCHEMA, TimelineWriter, _CARRY_OVER, PATIENCE_MS)
