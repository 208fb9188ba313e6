"""The other side of the read tables: applies events through the projectors' own writers, without a broker."""

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg

from chassis.consistency import ConsistencyToken
from chassis.identifiers import new_id
from events.user_events import Event, PublicUser, UserEmailChanged, UserErased, UserRegistered, UserSnapshot
from projectors.decoding.records import DecodedEvent, RecordDecoder
from projectors.projections import signups, timeline, users
from projectors.projections.projection import Projection
from projectors.projections.user_subject import USERS
from tests.integration.projectors.stream import record

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

ALL = (users.PROJECTION, timeline.PROJECTION, signups.PROJECTION)
START = datetime(2026, 11, 1, 12, tzinfo=UTC)


class ReadSide:
    """The read tables of generation 1, as projectors write them."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def apply(
        self,
        *events: Event | UserSnapshot,
        now: datetime = START,
        to: Iterable[Projection] = ALL,
        notify: bool = True,
        **more: str,
    ) -> None:
        """Apply a batch and commit; notify as projectors do, after it. `more` are attributes of the envelopes."""
        changes = [RecordDecoder(USERS).read(record(event, now=now, **more)) for event in events]
        assert all(isinstance(change, DecodedEvent) for change in changes), changes
        ids = " ".join(str(change.subject_id) for change in changes) if len(changes) <= 200 else ""
        for projection in to:
            async with self.connection.transaction():
                await projection.writer(1).apply(self.connection, changes)  # type: ignore[arg-type] # all are changes
            if notify:
                await self.connection.execute("SELECT pg_notify($1, $2)", projection.schema.channel, ids)

    async def register(self, *people: PublicUser, **how: Any) -> None:
        """Register people."""
        await self.apply(*(UserRegistered(user=user) for user in people), **how)

    async def see(self, until: datetime, *, partitions: int = 2) -> None:
        """Stamp how far every projection has seen."""
        for projection in ALL:
            await self.connection.executemany(
                "INSERT INTO checkpoints (projection, generation, topic, partition, position, seen_until)"
                " VALUES ($1, 1, 'users.events', $2, 0, $3)"
                " ON CONFLICT (projection, generation, topic, partition) DO UPDATE SET seen_until = $3",
                [(projection.name, partition, until) for partition in range(partitions)],
            )

    async def clear(self) -> None:
        """Forget everybody."""
        await self.connection.execute("TRUNCATE users_g1, users_g1_erased")


def person(number: int = 0, **fields: Any) -> PublicUser:
    """A user just registered; fields by name."""
    created = fields.pop("created_at", START + timedelta(seconds=number))
    status = fields.pop("status", "active")
    values: dict[str, Any] = {
        "id": new_id(),
        "email": f"user{number}@example.com",
        "username": f"User{number}",
        "email_verified": False,
        "display_name": None,
        "attributes": {},
        "is_active": status == "active",
        "status": status,
        "version": 1,
        "created_at": created,
        "updated_at": created,
    }
    return PublicUser(**{**values, **fields})


def moved(user: PublicUser, email: str, *, at: datetime | None = None) -> UserEmailChanged:
    """The user's next event: another address."""
    after = user.model_copy(
        update={"email": email, "version": user.version + 1, "updated_at": at or user.updated_at + timedelta(hours=1)}
    )
    return UserEmailChanged(user=after, previous={"email": user.email})


def erased(user: PublicUser) -> UserErased:
    """The user's last event."""
    return UserErased(user.id, user.version + 1)


def token(user_id: UUID, version: int) -> str:
    """The token of a user's version."""
    return ConsistencyToken(user_id, version).encode()


def shuffled(people: list[PublicUser], seed: int = 1) -> list[PublicUser]:
    """In another order, the same every time."""
    return random.Random(seed).sample(people, len(people))
