"""Appending an event inside the command's statement or transaction.

The event is appended from the subject's row that was just written: `INSERT INTO outbox SELECT ... FROM u`, where u is
the INSERT or UPDATE with RETURNING. So the outbox id is taken only once the subject's row is locked, and where that row
was not written (a stale version), no event is. `VALUES` with a subselect was tried: it took ids before the lock was won
and published two changes of one user in the wrong order.
"""

from typing import Any

from sqlalchemy import CTE, Insert, Select, bindparam, insert, select

from events.envelope import Envelope
from outbox.headers import encode_headers
from outbox.table import outbox

#: The caller gives these; the database adds id and appended_at, the relay a damage.
_COLUMNS = [column for column in outbox.columns if column.name not in {"id", "appended_at", "damage"}]


def append_from(source: CTE | Select[Any]) -> Insert:
    """The INSERT that appends one event for each row of `source` and returns the outbox ids.

    `append_arguments` gives its parameters.
    """
    parameters = [bindparam(f"outbox_{column.name}", type_=column.type) for column in _COLUMNS]
    written = source if isinstance(source, CTE) else source.cte("u")
    return insert(outbox).from_select(_COLUMNS, select(*parameters).select_from(written)).returning(outbox.c.id)


def append_arguments(envelope: Envelope, value: bytes | None) -> dict[str, Any]:
    """The parameters of `append_from` for one event."""
    return {
        "outbox_event_id": envelope.event_id,
        "outbox_subject_id": envelope.subject_id,
        "outbox_value": value,
        "outbox_headers": encode_headers(envelope),
    }
