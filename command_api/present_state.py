"""The present state of one user on the command side, for an operator's repair of the read side.

`muster repair` reads it under the lock that commands take, so that nothing newer is committed while it is written to
the read side; `muster repair --ahead` raises a version that the read side has passed, after a restored backup. Whom
only the read side knows is given up: erased from then on, because nobody would take events of that id that begin anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
_LOCK: Final = "SELECT id FROM users WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE"
_RAISE: Final = tuple(
    f"UPDATE {table} t SET version = i.version FROM unnest($1::uuid[], $2::bigint[]) AS i (id, version)"  # noqa: S608 - our names
    " WHERE t.id = i.id AND t.version < i.version"
    for table in ("users", "erased_users")
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


async def lock_living(connection: Connection, user_ids: Sequence[UUID]) -> set[UUID]:
    """Those of these who are users now; no command changes or erases them until the caller's transaction ends."""
    return {row["id"] for row in await connection.fetch(_LOCK, user_ids)}


async def raise_versions(connection: Connection, versions: Mapping[UUID, int]) -> None:
    """Let each user, or erasure, have the version of its id, unless it has a greater one."""
    for statement in _RAISE:
        await connection.execute(statement, list(versions), list(versions.values()))
