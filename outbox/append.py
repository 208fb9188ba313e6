"""Appending an event inside the command's statement or transaction.

The row is appended after the user's row is written, and from it: `INSERT INTO outbox SELECT ... FROM u`, u being the
INSERT or UPDATE with RETURNING. So the id is taken only once the user's row is locked, and where the user's row was not
written (a stale version) no event is. `VALUES` with a subselect took ids before the lock was won, and published two
changes of one user in the wrong order.
"""

from typing import Any

from sqlalchemy import CTE, Insert, Select, bindparam, insert, select

from events.envelope import Envelope
from outbox.headers import encode_headers
from outbox.table import outbox

#: What a caller gives; id and appended_at are the database's.
_COLUMNS = [column for column in outbox.columns if column.name not in {"id", "appended_at"}]


def append_from(source: CTE | Select[Any]) -> Insert:
    """The INSERT that appends one event for each row of `source`; gives the rows' ids.

    Its parameters are those of `append_arguments`.
    """
    parameters = [bindparam(f"outbox_{column.name}", type_=column.type) for column in _COLUMNS]
    subject = source if isinstance(source, CTE) else source.cte("u")
    return insert(outbox).from_select(_COLUMNS, select(*parameters).select_from(subject)).returning(outbox.c.id)


def append_arguments(envelope: Envelope, value: bytes | None) -> dict[str, Any]:
    """The named arguments of `append_from` for one event."""
    return {
        "outbox_event_id": envelope.event_id,
        "outbox_user_id": envelope.subject_id,
        "outbox_value": value,
        "outbox_headers": encode_headers(envelope),
    }
