"""The `users` projection: the current public user, as the query API sends it, beside what filters and sorts need.

An event carries the whole user, so only the newest of a batch is written. An id and a version stay of an erased user:
an older event that comes again must not bring the person back. For its receipt, so do the erasure's time and place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from itertools import accumulate
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from chassis.postgres.database import Connection
from chassis.text_keys import email_keys, text_keys
from events.envelope import EnvelopeError
from projectors.decoding.records import DecodedEvent, time_of
from projectors.projections.projection import IF_MOVED, CarryOver, Insert, PresentState, Projection, erasures, newest
from projectors.projections.user_subject import USERS
from read_model import users

#: Somebody waits for what was just changed. So the broker collects only what a transaction of the relay brings to
#: several partitions, one after the other, within a millisecond or two.
PATIENCE_MS: Final = 3
_row_values: Final = attrgetter("id", "version", "status", "email", "username", "created_at", "updated_at")

# Every column goes as one text, and all documents as one run of bytes: PostgreSQL takes them apart in a fraction of
# the time that it takes here to encode them value by value.
# What is not newer is left out before ON CONFLICT, which would lock its row and so write to its page. The condition
# behind ON CONFLICT is for a row that another transaction has written meanwhile. Versions are looked up row by row: a
# join would make PostgreSQL read all of a table that is not yet large, for every batch of a rebuild (three times the
# work).
_UPSERT: Final = """
INSERT INTO {users} AS t (id, version, status, email_key, username_key, created_at, updated_at, document)
SELECT i.* FROM (
    SELECT id::uuid, version::bigint, status, email_key, username_key,
        created_at::timestamptz, updated_at::timestamptz, substring($8::bytea FROM start::int FOR length::int)
    FROM unnest(
        string_to_array($1, ','), string_to_array($2, ','), string_to_array($3, ','),
        $4::text::text[], $5::text::text[], string_to_array($6, ','), string_to_array($7, ','),
        string_to_array($9, ','), string_to_array($10, ',')
    ) AS texts (id, version, status, email_key, username_key, created_at, updated_at, start, length)
) AS i (id, version, status, email_key, username_key, created_at, updated_at, document)
WHERE i.version > coalesce((SELECT e.version FROM {erased} e WHERE e.id = i.id), 0)
    AND i.version > coalesce((SELECT u.version FROM {users} u WHERE u.id = i.id), 0)
    AND {condition}
ON CONFLICT (id) DO UPDATE SET
    version = excluded.version, status = excluded.status,
    email_key = excluded.email_key, username_key = excluded.username_key,
    created_at = excluded.created_at, updated_at = excluded.updated_at, document = excluded.document
WHERE t.version < excluded.version
"""

#: Columns of an erased user since shape 1, and since shape 3.
_SHAPE_1: Final = ("id", "version")
_SHAPE_3: Final = (*_SHAPE_1, "erased_at", "topic", "topic_id", "partition", "record_offset", "published_at")

# The checkpoint knows which log of that name the record is on. A row without a place gets one, once a record has it.
# Who is there is found one by one, as above.
_ERASE: Final = """
WITH gone AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::text[], $5::int[], $6::bigint[],
        $7::timestamptz[]) AS i (id, version, erased_at, topic, partition, record_offset, published_at)
),
removed AS (DELETE FROM {users} WHERE id = ANY ($1::uuid[]) RETURNING id, version),
left_behind AS (
    SELECT g.id, greatest(g.version, r.version) AS version, g.erased_at, g.topic, c.topic_id, g.partition,
        g.record_offset, g.published_at
    FROM gone g LEFT JOIN removed r USING (id) LEFT JOIN checkpoints c
        ON c.projection = '{projection}' AND c.generation = {generation} AND c.topic = g.topic
            AND c.partition = g.partition
)
INSERT INTO {erased} AS e ({columns}) SELECT {columns} FROM left_behind l
WHERE (
    SELECT known.version >= l.version AND known.record_offset IS NOT NULL FROM {erased} known WHERE known.id = l.id
) IS NOT TRUE
ON CONFLICT (id) DO UPDATE SET {changed}
WHERE e.version < excluded.version OR (e.version = excluded.version AND e.record_offset IS NULL)
"""

# The row keeps what is known of an erasure that a repair writes anew: the tombstone published then is a later record.
_RESET: Final = """
WITH living AS (DELETE FROM {users} WHERE id = $1)
DELETE FROM {erased} WHERE id = $1 AND ($2::bigint IS NULL OR version <> $2)
"""

# A topic that was set back may end before the erasure: the replay has then brought the person back. Of one erasure the
# earliest record that was ever read counts; compaction may have left a later one alone.
_CARRY_ERASED: Final = """
WITH gone AS (SELECT {columns} FROM {old_erased} WHERE id >= $1 AND ($2::uuid IS NULL OR id < $2)),
removed AS (DELETE FROM {users} u USING gone WHERE u.id = gone.id AND u.version <= gone.version)
INSERT INTO {erased} AS e ({columns}) SELECT {columns} FROM gone
ON CONFLICT (id) DO UPDATE SET {changed} WHERE e.version < excluded.version
    OR (e.version = excluded.version AND e.topic_id = excluded.topic_id AND e.record_offset > excluded.record_offset)
"""


class UsersWriter:
    """Writes one generation of the users' tables."""

    def __init__(self, generation: int) -> None:
        """Name the tables of this generation."""
        tables = users.users_tables(generation)
        names = {"users": tables.users.name, "erased": tables.erased.name, **_written(_SHAPE_3)}
        names |= {"projection": users.SCHEMA.name, "generation": str(generation)}
        self._upsert = _UPSERT.format_map({**names, "condition": "true"})
        self._upsert_if_moved = _UPSERT.format_map({**names, "condition": IF_MOVED})
        self._erase, self._reset = _ERASE.format_map(names), _RESET.format_map(names)

    def as_insert(self, events: Sequence[DecodedEvent]) -> Insert:
        """The newest event of each user."""
        return Insert(self._upsert_if_moved, _columns([*newest(events).values()]))

    async def apply(self, connection: Connection, events: Sequence[DecodedEvent]) -> None:
        """One statement for the users who were erased, one for those who exist."""
        erased, rest = erasures(events)
        if erased:
            await connection.execute(self._erase, list(erased), list(erased.values()), *_tombstones(erased, events))
        if rest:
            await connection.execute(self._upsert, *_columns([*newest(rest).values()]))

    async def reset(self, connection: Connection, state: PresentState) -> None:
        """Forget the user, but for the place of this erasure."""
        await connection.execute(self._reset, state.subject_id, state.version if state.is_erased else None)


def _written(columns: Sequence[str]) -> dict[str, str]:
    """The names of these columns as a statement writes them, and what a conflict changes of them."""
    changed = ", ".join(f"{column} = excluded.{column}" for column in columns[1:])
    return {"columns": ", ".join(columns), "changed": changed}


def _tombstones(erased: Iterable[UUID], events: Sequence[DecodedEvent]) -> Iterable[tuple[Any, ...]]:
    """When each of these was erased, and by which record; of several that say the same it is the first."""
    found = newest(event for event in events if event.state is None)
    return zip(*(_tombstone(found[user_id]) for user_id in erased), strict=True)


def _tombstone(event: DecodedEvent) -> tuple[Any, ...]:
    record = event.record
    if not record.topic:  # what a repair writes: the record comes later, and then says both
        return None, None, None, None, None
    return _erased_at(event), record.topic, record.partition, record.offset, time_of(record)


def _erased_at(event: DecodedEvent) -> datetime | None:
    """The time of the erasure. A tombstone whose headers do not say it erases all the same: None."""
    try:
        return event.envelope.time
    except EnvelopeError:
        return None


def _columns(events: Sequence[DecodedEvent]) -> tuple[str | bytes, ...]:
    rows = [_row_values(event.state) for event in events]
    ids, versions, statuses, emails, usernames, created, updated = zip(*rows, strict=True)
    documents = [event.document for event in events]
    lengths = list(map(len, documents))
    return (
        ",".join(ids),
        ",".join(map(str, versions)),
        ",".join(statuses),
        _array(email_keys(emails)),
        _array(text_keys(usernames)),
        ",".join(created),
        ",".join(updated),
        b"".join(documents),
        ",".join(map(str, accumulate(lengths[:-1], initial=1))),
        ",".join(map(str, lengths)),
    )


def _array(texts: Sequence[str]) -> str:
    """An array in PostgreSQL's text form; the texts may hold any character but NUL."""
    joined = "\0".join(texts).replace("\\", r"\\").replace('"', r"\"")
    return '{"' + joined.replace("\0", '","') + '"}'


def carry_over(old: int, new: int, columns: Sequence[str] = _SHAPE_3) -> CarryOver:
    """Take over what is left of the erased, and remove them: the log may no longer have the erasures."""
    before, after = users.users_tables(old), users.users_tables(new)
    names = {"users": after.users.name, "erased": after.erased.name, "old_erased": before.erased.name}
    return CarryOver(names["old_erased"], [_CARRY_ERASED.format_map({**names, **_written(columns)})])


_CARRY_OVER: Final[dict[int, Callable[[int, int], CarryOver]]] = {
    1: partial(carry_over, columns=_SHAPE_1),
    2: partial(carry_over, columns=_SHAPE_1),
    3: carry_over,
}
PROJECTION: Final = Projection(USERS, users.SCHEMA, UsersWriter, _CARRY_OVER, PATIENCE_MS)
