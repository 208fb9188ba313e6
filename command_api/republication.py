"""Publishing once more what the command side holds: a user's present state as a snapshot, an erasure as its tombstone.

For operators' commands, which append in a transaction of their own. The relay publishes what they append like any
event. Whoever appends a snapshot holds the lock on the user's row meanwhile, as commands do: so none is ever published
behind a newer event of its user.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, NamedTuple
from uuid import UUID

from chassis.identifiers import new_id_text
from chassis.postgres.database import Connection
from command_api.users.rows import PUBLIC_COLUMNS, public_user
from events.envelope import Envelope
from events.user_events import USER_EVENTS, PublicUser, UserSnapshot
from outbox.headers import encode_headers

_VERSION_BYTES: Final = 8
_ID_BYTES: Final = 16
#: Stands for the id of an erasure from before it was kept.
_ERASED: Final = b"erased"

# FOR SHARE: a command on one of them waits until this transaction ends, and gets a greater outbox id.
_PRESENT: Final = f"""
SELECT {", ".join(PUBLIC_COLUMNS)}, event_id FROM users WHERE id = ANY($1::uuid[]) ORDER BY id FOR SHARE
"""  # noqa: S608 - names of columns
_GONE: Final = "SELECT id, version, event_id, erased_at FROM erased_users WHERE id = ANY($1::uuid[]) ORDER BY id"
#: The relay's floor needs the xid before the outbox id (outbox/relay/floor.py), and of the erased no row is locked.
_TAKE_XID: Final = "SELECT pg_current_xact_id()"
_APPEND: Final = """
INSERT INTO outbox (event_id, subject_id, value, headers)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::bytea[]) RETURNING subject_id, id
"""


@dataclass(frozen=True, slots=True)
class Operation:
    """A command of an operator, for which something is published once more."""

    #: The actor, as `cli_actor` writes it.
    actor: str
    #: The correlation and the cause of all that it publishes.
    id: str = field(default_factory=new_id_text)

    def headers(self, **attributes: Any) -> bytes:
        """The headers of one of its messages, whose other attributes are these."""
        ours: dict[str, Any] = {
            "source": USER_EVENTS.source,
            "correlation_id": self.id,
            "causation_id": self.id,
            "actor": self.actor,
        }
        return encode_headers(Envelope(**ours, **attributes))


class OutboxMessage(NamedTuple):
    """The columns of an outbox row that is appended."""

    event_id: UUID
    subject_id: UUID
    value: bytes | None
    headers: bytes


def snapshot(user: PublicUser, event_id: UUID, operation: Operation) -> OutboxMessage:
    """The state of a user after the event with this id, which brought it to its version."""
    ours = _derived_id(user.id, user.version, event_id.bytes)
    headers = operation.headers(
        event_id=ours, type=UserSnapshot.type(), subject_id=user.id, version=user.version, time=user.updated_at
    )
    return OutboxMessage(ours, user.id, USER_EVENTS.encode(UserSnapshot(user=user)), headers)


def tombstone(
    user_id: UUID, version: int, event_id: UUID | None, erased_at: datetime, operation: Operation
) -> OutboxMessage:
    """An erasure once more, under its event's own id where that is known."""
    ours = event_id or _derived_id(user_id, version, _ERASED)
    headers = operation.headers(
        event_id=ours, type=USER_EVENTS.tombstone_type, subject_id=user_id, version=version, time=erased_at
    )
    return OutboxMessage(ours, user_id, None, headers)


async def append(connection: Connection, messages: Sequence[OutboxMessage]) -> dict[UUID, int]:
    """Append these, one a user, in the caller's transaction, which holds the locks on their users' rows.

    Returns:
        The outbox ids, by user.
    """
    event_ids = [message.event_id for message in messages]
    subject_ids = [message.subject_id for message in messages]
    values, headers = [message.value for message in messages], [message.headers for message in messages]
    await connection.execute(_TAKE_XID)
    rows = await connection.fetch(_APPEND, event_ids, subject_ids, values, headers)
    return {row["subject_id"]: row["id"] for row in rows}


async def append_present(connection: Connection, user_ids: Iterable[UUID], operation: Operation) -> dict[UUID, int]:
    """Append what is true of these users now, in the caller's transaction: a snapshot of each, or their tombstone.

    Returns:
        The outbox ids by user; those whom the command side does not know are not among them.
    """
    ids = list(user_ids)
    living = [snapshot(public_user(row), row["event_id"], operation) for row in await connection.fetch(_PRESENT, ids)]
    # After the locks were waited for: whoever was erased meanwhile is found here.
    others = set(ids) - {message.subject_id for message in living}
    gone = [
        tombstone(row["id"], row["version"], row["event_id"], row["erased_at"], operation)
        for row in await connection.fetch(_GONE, list(others))
    ]
    return await append(connection, [*living, *gone])


def _derived_id(user_id: UUID, version: int, origin: bytes) -> UUID:
    """A UUIDv8 (RFC 9562, 5.8), the same at each publication: the beginning of a SHA-256 of what it stands for."""
    digest = sha256(user_id.bytes + version.to_bytes(_VERSION_BYTES, "big") + origin).digest()
    number = int.from_bytes(digest[:_ID_BYTES], "big")
    number = number & ~(0xF << 76) | 8 << 76
    return UUID(int=number & ~(0b11 << 62) | 0b10 << 62)
