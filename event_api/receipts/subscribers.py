"""Subscribers: who says that it reads the events, and how far it has read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final
from uuid import UUID

from chassis.postgres.database import Database
from event_api.log.positions import LogPosition

#: More is a mistake of somebody who registers a name at each start; every receipt names all of them.
MOST_SUBSCRIBERS: Final = 1000
#: One caller with this mistake cannot use up all names.
MOST_OF_AN_OWNER: Final = 20

_COLUMNS: Final = "name, consumer_group, actor, registered_at, topic_id, offsets, acknowledged_at"
# A row that was there before is one that this statement has locked.
_REGISTER: Final = f"""
INSERT INTO subscribers AS s (name, owner, consumer_group, actor)
SELECT $1, $2, $3, $4 WHERE EXISTS (SELECT FROM subscribers WHERE name = $1) OR (
    (SELECT count(*) FROM subscribers) < $5 AND (SELECT count(*) FROM subscribers WHERE owner = $2) < $6
)
ON CONFLICT (name) DO UPDATE SET consumer_group = excluded.consumer_group WHERE s.owner = excluded.owner
RETURNING xmax = 0 AS is_new, {_COLUMNS}
"""  # noqa: S608 - our names
_ALL: Final = f"SELECT {_COLUMNS} FROM subscribers ORDER BY name"  # noqa: S608 - our names
_IS_THERE: Final = "SELECT EXISTS (SELECT FROM subscribers WHERE name = $1)"
_ACKNOWLEDGE: Final = """
UPDATE subscribers SET topic_id = $3, offsets = $4, acknowledged_at = now()
WHERE name = $1 AND owner = $2 AND consumer_group IS NULL
RETURNING name
"""
_GROUP: Final = "SELECT consumer_group FROM subscribers WHERE name = $1 AND owner = $2"
_REMOVE: Final = "DELETE FROM subscribers WHERE name = $1 AND ($2::bytea IS NULL OR owner = $2) RETURNING name"


class NameTakenError(Exception):
    """Somebody else has registered that name."""


class TooManySubscribersError(Exception):
    """There are MOST_SUBSCRIBERS, or MOST_OF_AN_OWNER of this owner."""


class GroupSpeaksError(Exception):
    """The subscriber has named its consumer group, the message, and only what that has committed counts."""


@dataclass(frozen=True, slots=True)
class Subscriber:
    """One subscriber, and what it acknowledged last by itself."""

    name: str
    #: The consumer group whose committed offsets say how far it is, where it has named one.
    group: str | None
    #: The one who registered it, as events name actors; None where access was switched off.
    actor: str | None
    registered_at: datetime
    #: The log that its offsets are on; None before it acknowledged any.
    topic_id: UUID | None
    #: The next one of each partition.
    offsets: tuple[int, ...] | None
    acknowledged_at: datetime | None


@dataclass(frozen=True, slots=True)
class SubscriberStore:
    """The table of subscribers; an owner is a caller's identity, kept as its digest.

    Every method raises DatabaseUnavailableError as well.
    """

    _database: Database

    async def register(self, name: str, group: str | None, owner: str, actor: str | None) -> tuple[Subscriber, bool]:
        """The subscriber as it is from now on, and whether it is new.

        Raises:
            NameTakenError, TooManySubscribersError.
        """
        async with self._database.connection() as connection:
            bounds = MOST_SUBSCRIBERS, MOST_OF_AN_OWNER
            row = await connection.fetchrow(_REGISTER, name, _digest(owner), group, actor, *bounds)
            if row is None:
                there = await connection.fetchval(_IS_THERE, name)
                raise NameTakenError(name) if there else TooManySubscribersError(name)
        is_new, *values = row.values()
        return Subscriber(*values), is_new

    async def acknowledge(self, name: str, position: LogPosition, owner: str) -> bool:
        """Note how far it is, further or not; False where this owner has none of that name.

        Raises:
            GroupSpeaksError: it has named its consumer group.
        """
        async with self._database.connection() as connection:
            where = position.topic_id, list(position.offsets)
            found = await connection.fetchval(_ACKNOWLEDGE, name, _digest(owner), *where)
            if found is None and (group := await connection.fetchval(_GROUP, name, _digest(owner))):
                raise GroupSpeaksError(group)
        return found is not None

    async def remove(self, name: str, owner: str | None) -> bool:
        """Forget it; False where this owner, or with None anybody, has none of that name."""
        async with self._database.connection() as connection:
            found = await connection.fetchval(_REMOVE, name, None if owner is None else _digest(owner))
        return found is not None

    async def all(self) -> list[Subscriber]:
        """Every one, by name."""
        async with self._database.connection() as connection:
            return [Subscriber(*row.values()) for row in await connection.fetch(_ALL)]


def _digest(owner: str) -> bytes:
    """A subject may be somebody's address."""
    return sha256(owner.encode("utf-8", "surrogatepass")).digest()
