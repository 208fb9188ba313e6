"""A user as a row of `users`, and back: the store, the import and the audit take their columns from here.

A field of `PublicUser` (events/user_events.py) is stored in the column of its name (command_api/users/tables.py), as it
is. So a new field needs its two declarations and nothing here. What is different about a column is below.
"""

from __future__ import annotations

import json
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from sqlalchemy.dialects import postgresql

from chassis.text_keys import email_key, text_key
from command_api.users.tables import users
from command_api.users.values import Attributes
from events.user_events import PublicUser

#: `attributes` is stored as JSON, and `is_active` follows from the status.
_AS_IT_IS: Final = tuple(name for name in PublicUser.model_fields if name not in {"attributes", "is_active"})
#: A user is read from these columns.
PUBLIC_COLUMNS: Final = (*_AS_IT_IS, "attributes")
#: The values of a row, in the order of `user_row`.
COLUMNS: Final = (*PUBLIC_COLUMNS, "email_key", "username_key", "event_id", "password_hash", "password_set_by")

#: The values of a user's fields, or of a row's columns, all at once.
_values: Final = itemgetter(*_AS_IT_IS)


def user_row(user: PublicUser, event_id: UUID, password_hash: str | None) -> tuple[Any, ...]:
    """The values of COLUMNS after the event; `password_hash` is None where the event brings no password."""
    fields = vars(user)
    return (
        *_values(fields),
        _attributes_text(fields["attributes"]),
        email_key(fields["email"]),
        text_key(fields["username"]),
        event_id,
        password_hash,
        None if password_hash is None else event_id,
    )


def public_user(row: Any) -> PublicUser:
    """The user in a row that has PUBLIC_COLUMNS; not validated again, because it was when it was written."""
    text = row["attributes"]
    return PublicUser.model_construct(
        **dict(zip(_AS_IT_IS, _values(row), strict=True)),
        attributes={} if text == "{}" else json.loads(text),
        is_active=row["status"] == "active",
    )


def sql_type(column: str) -> str:
    """The PostgreSQL type of a column, without its collation."""
    return users.c[column].type.compile(postgresql.dialect()).partition(" COLLATE")[0]  # type: ignore[no-untyped-call]


def _attributes_text(attributes: Attributes) -> str:
    """The JSON that is stored; most users have no attributes."""
    if not attributes:
        return "{}"
    return json.dumps(attributes, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
