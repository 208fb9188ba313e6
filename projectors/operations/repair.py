"""One user's state written into every generation, as the command side has it, whatever the log has said.

In the same transaction the position is noted up to which the log's records of that user do not count: feeds that are
behind it, and every later rebuild, leave them out (projectors/trust/repairs.py). What is parked of the user goes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple
from uuid import UUID

from chassis.postgres.database import Connection, Database
from events.envelope import Envelope
from events.user_events import USER_EVENTS, PublicUser, UserErased, UserSnapshot
from projectors.consumer import parking
from projectors.decoding.records import DecodedEvent, RecordDecoder
from projectors.projections.catalogue import PROJECTIONS
from projectors.projections.projection import PresentState, Projection
from projectors.projections.user_subject import USERS
from projectors.trust import repairs, versions
from read_model import generations
from read_model.generations import Generation

_NOTE: Final = """
INSERT INTO repaired_users AS t (topic_id, partition, user_id, position) VALUES ($1, $2, $3, $4)
ON CONFLICT (topic_id, partition, user_id) DO UPDATE SET
    position = greatest(t.position, excluded.position), repaired_at = now()
"""
# Also the lock that keeps feeds still. A feed that waits for it sees the mark before it writes.
_MARK: Final = """
WITH held AS (
    SELECT projection, generation FROM checkpoints WHERE topic_id = $1 AND partition = $2
    ORDER BY projection, generation FOR UPDATE
)
UPDATE checkpoints c SET repaired_until = greatest(c.repaired_until, $3) FROM held
WHERE c.projection = held.projection AND c.generation = held.generation AND c.topic_id = $1 AND c.partition = $2
"""
_FORGET_VERSION: Final = "DELETE FROM parked_versions WHERE projection = $1 AND generation = $2 AND user_id = $3"


class Place(NamedTuple):
    """Where a user's records are on the topic that is there now, and where they end."""

    topic_id: UUID
    partition: int
    position: int


@dataclass(frozen=True, slots=True)
class _Written:
    """A state as the record that would bring it."""

    key: bytes
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    #: On none: the record itself comes later.
    topic: str = field(default="")
    partition: int = field(default=0)
    offset: int = field(default=0)
    timestamp: int = field(default=0)


async def known_version(database: Database, user_id: UUID) -> int | None:
    """The greatest version that any generation has read of the user, parked or applied.

    Returns:
        None for nobody: what is suspicious says nothing, for anybody can write any id.
    """
    async with database.connection() as connection:
        found = [
            (await versions.read(connection, generation, _tables(projection, generation), [user_id])).get(user_id)
            async for projection, generation in _fed(connection)
        ]
    return max((version for version in found if version is not None), default=None)


async def heal(
    database: Database, state: PresentState, user: PublicUser | None, place: Place, now: datetime
) -> list[Generation]:
    """Write this state into every generation that is fed or being built, and return these."""
    event = _event(state, user, now)
    healed = []
    async with database.connection() as connection, connection.transaction():
        await repairs.take_turn(connection)
        await connection.execute(_MARK, *place)
        await connection.execute(_NOTE, place.topic_id, place.partition, state.subject_id, place.position)
        async for projection, generation in _fed(connection):
            writer = projection.writer(generation.number)
            await writer.reset(connection, state)
            await writer.apply(connection, [event])
            await parking.forget(connection, generation, [state.subject_id])
            await connection.execute(_FORGET_VERSION, generation.projection, generation.number, state.subject_id)
            await connection.execute("SELECT pg_notify($1, $2)", projection.schema.channel, str(state.subject_id))
            healed.append(generation)
    return healed


async def _fed(connection: Connection) -> AsyncIterator[tuple[Projection, Generation]]:
    """The generations that are not retired and have a shape that this code writes."""
    for name, projection in PROJECTIONS.items():
        for generation in await generations.read(connection, name):
            if generation.status != "retired" and generation.shape == projection.shape:
                yield projection, generation


def _tables(projection: Projection, generation: Generation) -> list[str]:
    return [table.name for table in projection.schema.tables(generation.number).versions]


def _event(state: PresentState, user: PublicUser | None, now: datetime) -> DecodedEvent:
    """The state as an event: a snapshot, or a tombstone."""
    event = UserErased(state.subject_id, state.version) if user is None else UserSnapshot(user=user)
    envelope = Envelope(
        event_id=state.event_id or state.subject_id, source=USER_EVENTS.source, type=USER_EVENTS.event_type(event),
        subject_id=state.subject_id, version=state.version, time=now, correlation_id="", causation_id="",
    )  # fmt: skip
    record = _Written(str(state.subject_id).encode(), USER_EVENTS.encode(event), envelope.headers())
    decoded = RecordDecoder(USERS).read(record)
    assert isinstance(decoded, DecodedEvent), decoded
    return decoded
