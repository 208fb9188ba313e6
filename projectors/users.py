"""The `users` projection: the current public user, as the query API sends it, beside what filters and sorts need.

An event carries the whole user, so only the newest of a batch is written. The erased leave an id and a version behind:
an older event that comes again must not bring a person back.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from json import JSONDecoder
from operator import itemgetter
from typing import Final

from chassis.text_keys import text_keys
from events.catalogue import decode, is_newest
from projectors.consumer.records import Change
from projectors.projection import IF_MOVED, CarryOver, Projection, Rows, newest
from read_model import users
from read_model.generations import Connection

#: Somebody waits for what was just changed: collected is only what a transaction of the relay brings to several
#: partitions one after the other, within a millisecond or two.
PATIENCE_MS: Final = 3
_PREFIX: Final = b'{"user":'
_NEXT: Final = b',"previous":'
_USER: Final = b'"user"'
#: The user's last field, also up to the quote before its time; the time's length; its end and the user's, and the next.
_LAST: Final = b'"updated_at"'
_LAST_TEXT: Final = _LAST + b':"'
_TIME_CHARACTERS: Final = len("2026-11-29T12:00:00.000000Z")
_END: Final = b'Z"}' + _NEXT
_SCANNER: Final = JSONDecoder()
_written: Final = itemgetter("id", "version", "status", "email", "username", "created_at", "updated_at")

# What has no comma goes as one text a column, ids and times as they are written: PostgreSQL takes it apart and reads it
# in a fraction of what its encoding, value by value, costs here.
# What is not newer is left out before the conflict, which would lock its row and so write to its page; the condition
# after it is for a row that another transaction has written meanwhile.
_UPSERT: Final = """
INSERT INTO {users} AS t (id, version, status, email_key, username_key, created_at, updated_at, document)
SELECT i.* FROM (
    SELECT id::uuid, version::bigint, status, email_key, username_key,
        created_at::timestamptz, updated_at::timestamptz, document
    FROM unnest(
        string_to_array($1, ','), string_to_array($2, ','), string_to_array($3, ','), $4::text[], $5::text[],
        string_to_array($6, ','), string_to_array($7, ','), $8::bytea[]
    ) AS texts (id, version, status, email_key, username_key, created_at, updated_at, document)
) AS i
WHERE NOT EXISTS (SELECT FROM {erased} e WHERE e.id = i.id AND e.version >= i.version)
    AND NOT EXISTS (SELECT FROM {users} u WHERE u.id = i.id AND u.version >= i.version)
    AND {condition}
ON CONFLICT (id) DO UPDATE SET
    version = excluded.version, status = excluded.status,
    email_key = excluded.email_key, username_key = excluded.username_key,
    created_at = excluded.created_at, updated_at = excluded.updated_at, document = excluded.document
WHERE t.version < excluded.version
"""

_ERASE: Final = """
WITH gone AS (SELECT * FROM unnest($1::uuid[], $2::bigint[]) AS i (id, version)),
removed AS (DELETE FROM {users} t USING gone WHERE t.id = gone.id AND t.version <= gone.version)
INSERT INTO {erased} AS e (id, version) SELECT id, version FROM gone
WHERE NOT EXISTS (SELECT FROM {erased} known WHERE known.id = gone.id AND known.version >= gone.version)
ON CONFLICT (id) DO UPDATE SET version = excluded.version WHERE e.version < excluded.version
"""

_CARRY_ERASED: Final = """
INSERT INTO {erased} (id, version) SELECT id, version FROM {old_erased} WHERE id >= $1 AND ($2::uuid IS NULL OR id < $2)
ON CONFLICT DO NOTHING
"""


class UsersWriter:
    """Writes one generation of the users' tables."""

    def __init__(self, generation: int) -> None:
        """Name the tables of this generation."""
        tables = users.users_tables(generation)
        names = {"users": tables.users.name, "erased": tables.erased.name}
        self._upsert = _UPSERT.format_map({**names, "condition": "true"})
        self._upsert_if_moved = _UPSERT.format_map({**names, "condition": IF_MOVED})
        self._erase = _ERASE.format_map(names)

    def rows(self, changes: Sequence[Change]) -> Rows:
        """Always: the newest of each user."""
        return Rows(self._upsert_if_moved, _columns([*newest(changes).values()]))

    async def apply(self, connection: Connection, changes: Sequence[Change]) -> None:
        """One statement for the users that exist, one for those that were erased."""
        latest = newest(changes).values()
        public = [change for change in latest if change.data is not None]
        erased = [change for change in latest if change.data is None]
        if public:
            await connection.execute(self._upsert, *_columns(public))
        if erased:
            await connection.execute(
                self._erase, [change.user_id for change in erased], [change.version for change in erased]
            )


def _columns(changes: Sequence[Change]) -> tuple[str | list[str] | list[bytes], ...]:
    users = [_written(change.data["user"]) for change in changes if change.data is not None]
    ids, versions, statuses, emails, usernames, created, updated = zip(*users, strict=True)
    return (
        ",".join(ids),
        ",".join(map(str, versions)),
        ",".join(statuses),
        text_keys(emails),
        text_keys(usernames),
        ",".join(created),
        ",".join(updated),
        [document(change) for change in changes],
    )


def document(change: Change) -> bytes:
    """The user as both APIs send it, byte for byte.

    The event's value begins with these very bytes. Where nothing in it is escaped and the keys are there once, the
    user's last field tells where they end; else a parser does, in a third of the time of writing them anew. A second
    `user` behind the first is the one that counts, as for the columns: it is written anew.
    """
    value = change.record.value
    assert value is not None
    if value.startswith(_PREFIX) and is_newest(change.type):
        last = value.find(_LAST)
        if value.find(_LAST, last + 1) == value.find(_USER, len(_PREFIX)) == -1 and b"\\" not in value:
            end = last + len(_LAST_TEXT) + _TIME_CHARACTERS + len(b'"}')
            if value.startswith(_LAST_TEXT, last) and value.startswith(_END, end - len(b'Z"}')):
                return value[len(_PREFIX) : end]
        text = value.decode()
        with suppress(ValueError, RecursionError):
            _, end = _SCANNER.raw_decode(text, len(_PREFIX))
            if text.startswith(_NEXT.decode(), end) and "user" not in _SCANNER.decode("{" + text[end + 1 :]):
                return text[len(_PREFIX) : end].encode()
    # Written by an older version of the code, or by nobody we know.
    return decode(change.type, value).user.model_dump_json().encode()


def carry_over(old: int, new: int) -> CarryOver:
    """The ids and last versions of the erased, of whom the log may know nothing any more."""
    names = {"erased": users.users_tables(new).erased.name, "old_erased": users.users_tables(old).erased.name}
    return CarryOver(names["old_erased"], [_CARRY_ERASED.format_map(names)])


PROJECTION: Final = Projection(users.PROJECTION, users.SHAPE, users.CHANNEL, UsersWriter, {1: carry_over}, PATIENCE_MS)
