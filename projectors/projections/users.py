"""The `users` projection: the current public user, as the query API sends it, beside what filters and sorts need.

An event carries the whole user, so only the newest of a batch is written. An id and a version stay of an erased user:
an older event that comes again must not bring the person back.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Final

from chassis.postgres.database import Connection
from chassis.text_keys import email_keys, text_keys
from projectors.decoding.records import DecodedEvent
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

_ERASE: Final = """
WITH gone AS (SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS i (id, version)),
removed AS (DELETE FROM {users} t USING gone WHERE t.id = gone.id RETURNING t.id, t.version),
left_behind AS (SELECT g.id, greatest(g.version, r.version) AS version FROM gone g LEFT JOIN removed r USING (id))
INSERT INTO {erased} AS e (id, version) SELECT id, version FROM left_behind l
WHERE NOT EXISTS (SELECT FROM {erased} known WHERE known.id = l.id AND known.version >= l.version)
ON CONFLICT (id) DO UPDATE SET version = excluded.version WHERE e.version < excluded.version
"""

_RESET: Final = "WITH living AS (DELETE FROM {users} WHERE id = $1) DELETE FROM {erased} WHERE id = $1"

# A topic that was set back may end before the erasure: the replay has then brought the person back.
_CARRY_ERASED: Final = """
WITH gone AS (SELECT id, version FROM {old_erased} WHERE id >= $1 AND ($2::uuid IS NULL OR id < $2)),
removed AS (DELETE FROM {users} u USING gone WHERE u.id = gone.id AND u.version <= gone.version)
INSERT INTO {erased} AS e (id, version) SELECT id, version FROM gone
ON CONFLICT (id) DO UPDATE SET version = excluded.version WHERE e.version < excluded.version
"""


class UsersWriter:
    """Writes one generation of the users' tables."""

    def __init__(self, generation: int) -> None:
        """Name the tables of this generation."""
        tables = users.users_tables(generation)
        names = {"users": tables.users.name, "erased": tables.erased.name}
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
            await connection.execute(self._erase, list(erased), list(erased.values()))
        if rest:
            await connection.execute(self._upsert, *_columns([*newest(rest).values()]))

    async def reset(self, connection: Connection, state: PresentState) -> None:
        """Forget the user."""
        await connection.execute(self._reset, state.subject_id)


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


def carry_over(old: int, new: int) -> CarryOver:
    """Take over the ids and last versions of the erased, and remove them: the log may no longer have the erasures."""
    before, after = users.users_tables(old), users.users_tables(new)
    names = {"users": after.users.name, "erased": after.erased.name, "old_erased": before.erased.name}
    return CarryOver(names["old_erased"], [_CARRY_ERASED.format_map(names)])


PROJECTION: Final = Projection(USERS, users.SCHEMA, UsersWriter, {1: carry_over, 2: carry_over}, PATIENCE_MS)
