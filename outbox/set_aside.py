"""Setting a damaged row aside, and putting it back: deeds of a person, so that everybody else's events flow on.

A row that is set aside keeps its id, and with it its place among its subject's rows. These wait: the relay reads past
them while the row is there (outbox/relay/work_list.py), whenever they were appended.

Only a row that the relay has named can be taken out of the outbox: the relay holds such a row, so that it is in no
page that may be in flight.
"""

from __future__ import annotations

from typing import Any, Final

from chassis.postgres.database import Connection

_COLUMNS: Final = "id, event_id, subject_id, value, headers, appended_at"

_FIND: Final = f"""
SELECT {_COLUMNS}, damage, NULL::timestamptz AS set_aside_at FROM outbox WHERE id = $1
UNION ALL SELECT {_COLUMNS}, damage, set_aside_at FROM outbox_set_aside WHERE id = $1
"""  # noqa: S608 - names of columns
#: Nobody sets so many aside one by one.
HELD_ROWS: Final = 100
_HELD: Final = """
SELECT id, subject_id, damage, NULL::timestamptz AS set_aside_at FROM outbox WHERE damage IS NOT NULL
UNION ALL SELECT id, subject_id, damage, set_aside_at FROM outbox_set_aside ORDER BY id LIMIT $1
"""
_WAITING: Final = """
SELECT id, event_id, value, headers FROM outbox WHERE subject_id = $1 AND id > $2
UNION ALL SELECT id, event_id, value, headers FROM outbox_set_aside WHERE subject_id = $1 AND id > $2 ORDER BY id
"""
_HELD_BEFORE: Final = """
SELECT min(id) FROM (
    SELECT id FROM outbox WHERE subject_id = $1 AND id < $2 AND damage IS NOT NULL
    UNION ALL SELECT id FROM outbox_set_aside WHERE subject_id = $1 AND id < $2
) AS held
"""
_SET_ASIDE: Final = f"""
WITH taken AS (DELETE FROM outbox WHERE id = $1 AND damage IS NOT NULL RETURNING {_COLUMNS}, damage)
INSERT INTO outbox_set_aside ({_COLUMNS}, damage) SELECT * FROM taken RETURNING id
"""  # noqa: S608 - names of columns
_DELETE: Final = "DELETE FROM outbox WHERE id = $1 AND damage IS NOT NULL RETURNING id"
_PUT_BACK: Final = f"""
WITH taken AS (DELETE FROM outbox_set_aside WHERE id = $1 RETURNING {_COLUMNS})
INSERT INTO outbox ({_COLUMNS}) OVERRIDING SYSTEM VALUE SELECT * FROM taken RETURNING id
"""  # noqa: S608 - names of columns
_REPLACE: Final = f"""
WITH taken AS (DELETE FROM outbox_set_aside WHERE id = $1 RETURNING id, appended_at)
INSERT INTO outbox ({_COLUMNS}) OVERRIDING SYSTEM VALUE SELECT id, $2, $3, $4, $5, appended_at FROM taken RETURNING id
"""  # noqa: S608 - names of columns

#: Deletes what of a subject is held back, for the transaction of its erasure: rows that are damaged or set aside, and
#: what waits behind them. The user must be gone before. A function of the owner's (command migration 0009): whoever
#: erases has no right to delete events.
FORGET_HELD_BACK: Final = "SELECT forget_held_back($1)"


async def find_row(connection: Connection, number: int) -> Any | None:
    """The row with this id, in the outbox or set aside (then it has `set_aside_at`)."""
    return await connection.fetchrow(_FIND, number)


async def held_rows(connection: Connection) -> list[Any]:
    """The first HELD_ROWS rows that others wait for: named by the relay, or set aside (then with `set_aside_at`)."""
    rows: list[Any] = await connection.fetch(_HELD, HELD_ROWS)
    return rows


async def rows_behind(connection: Connection, subject_id: Any, number: int) -> list[Any]:
    """The rows of a subject behind this id, in order: in the outbox, and set aside."""
    rows: list[Any] = await connection.fetch(_WAITING, subject_id, number)
    return rows


async def held_before(connection: Connection, subject_id: Any, number: int) -> int | None:
    """The first row of a subject before this id that is damaged or set aside; None: there is none."""
    first: int | None = await connection.fetchval(_HELD_BEFORE, subject_id, number)
    return first


async def set_aside(connection: Connection, number: int) -> bool:
    """Take a row that the relay has named out of the outbox, and keep it; False: there is none (any more)."""
    return await connection.fetchval(_SET_ASIDE, number) is not None


async def delete_named(connection: Connection, number: int) -> bool:
    """Take a row that the relay has named out of the outbox for good; False: there is none (any more)."""
    return await connection.fetchval(_DELETE, number) is not None


async def put_back(connection: Connection, number: int) -> bool:
    """Put a row that was set aside in its place again, as it was; False: there is none (any more)."""
    return await connection.fetchval(_PUT_BACK, number) is not None


async def replace(connection: Connection, number: int, message: tuple[Any, Any, bytes | None, bytes]) -> bool:
    """Put another event of its subject in the place of a row that was set aside; False: there is none (any more).

    `message`: event id, subject id, value, headers.
    """
    return await connection.fetchval(_REPLACE, number, *message) is not None
