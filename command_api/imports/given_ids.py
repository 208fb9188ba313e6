"""Ids that others gave: an import brings users under them, a repair gives up whom only the read side knows.

Each looks whether the other has been there before, and none sees what has not committed yet. So a repair waits for the
imports that are under way, and they for it; imports do not wait for one another.
"""

from __future__ import annotations

from typing import Final

from chassis.postgres.database import Connection

#: Any number that nothing else locks.
_TURN: Final = 7461902117


async def bring(connection: Connection) -> None:
    """Let nobody be given up until the caller's transaction ends; from now on it sees who was."""
    await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", _TURN)


async def give_up(connection: Connection) -> None:
    """Let no import commit until the caller's transaction ends; from now on it sees whom they have brought."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _TURN)
