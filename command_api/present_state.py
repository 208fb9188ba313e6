"""The present state of one user on the command side, for an operator's repair of the read side.

`muster repair` reads it under the lock that commands take, so that nothing newer is committed while it is written to
the read side; `muster repair --ahead` raises a version that the read side has passed, after a restored backup. Whom
only the read side knows is given up: erased from then on, because nobody would take events of that id that begin anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from chassis.postgres.database import Connection
from command_api.imports import given_ids
from command_api.users.rows import PUBLIC_COLUMNS, public_user
from events.user_events import PublicUser

_PRESENT: Final = f"SELECT {', '.join(PUBLIC_COLUMNS)}, event_id FROM users WHERE id = $1 FOR SHARE"  # noqa: S608 - names of columns
_GONE: Final = "SELECT version, event_id FROM erased_users WHERE id = $1"
_GIVE_UP: Final = """
INSERT INTO erased_users (id, version, event_id, erased_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING
"""
_IS_THERE: Final = "SELECT EXISTS (SELECT FROM users WHERE id = $1)"
_RAISE: Final = (
    "UPDATE users SET version = $2 WHERE id = $1 AND version < $2 RETURNING 1",
    "UPDATE erased_users SET version = $2 WHERE id = $1 AND version < $2 RETURNING 1",
)


@dataclass(frozen=True, slots=True)
class CommandState:
    """One user; of one who was erased, the version and event of the erasure, of one who is unknown, version 0."""

    user: PublicUser | None
    version: int
    #: The event that led to it, where that is known.
    event_id: UUID | None


async def present_state(connection: Connection, user_id: UUID) -> CommandState:
    """The user's state, which no command changes until the caller's transaction ends."""
    row = await connection.fetchrow(_PRESENT, user_id)
    if row is not None:
        return CommandState(public_user(row), row["version"], row["event_id"])
    row = await connection.fetchrow(_GONE, user_id)
    return CommandState(None, 0, None) if row is None else CommandState(None, row["version"], row["event_id"])


async def give_up(connection: Connection, user_id: UUID, version: int, event_id: UUID, erased_at: datetime) -> bool:
    """Have a user of whom this side knows nothing count as erased, at the version that others have seen.

    False where an import has brought the user meanwhile: then the caller has to undo its transaction.
    """
    await given_ids.give_up(connection)
    await connection.execute(_GIVE_UP, user_id, version, event_id, erased_at)
    # An import may have committed since the caller looked.
    return not await connection.fetchval(_IS_THERE, user_id)


async def raise_version(connection: Connection, user_id: UUID, version: int) -> bool:
    """Let the user, or the erasure, have this version; False where it already has it, or a greater one."""
    return any([await connection.fetchval(statement, user_id, version) for statement in _RAISE])
