"""Events for tests: users that live, as a relay would publish them, and records without a broker."""

import random
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Self
from uuid import UUID

from aiokafka import AIOKafkaProducer

from chassis.identifiers import new_id
from chassis.kafka.client import client_arguments
from chassis.settings import Kafka
from events.envelope import Envelope
from events.user_events import (
    USER_EVENTS,
    ChangeEvent,
    Event,
    PublicUser,
    UserDeactivated,
    UserEmailChanged,
    UserErased,
    UserPasswordChanged,
    UserProfileChanged,
    UserReactivated,
    UserRegistered,
    UserSnapshot,
    UserUsernameChanged,
)

START = datetime(2026, 11, 1, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class FakeRecord:
    """A record as aiokafka gives it, as far as it is read."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    partition: int = 0
    offset: int = 0
    timestamp: int = 1_793_534_400_000
    topic: str = "users.events"


def record(event: Event | UserSnapshot, *, now: datetime = START, **more: str) -> FakeRecord:
    """The record of one event; `more` are further attributes of its envelope."""
    if isinstance(event, UserErased):
        user_id, version = event.user_id, event.version
    else:
        user_id, version = event.user.id, event.user.version
    envelope = Envelope(
        event_id=new_id(), source=USER_EVENTS.source, type=USER_EVENTS.event_type(event),
        subject_id=user_id, version=version, time=now,
        correlation_id="test", causation_id="test", **more,
    )  # fmt: skip
    return FakeRecord(str(user_id).encode(), USER_EVENTS.encode(event), envelope.headers())


def new_user(number: int = 0, *, now: datetime = START, user_id: UUID | None = None) -> PublicUser:
    """A user just registered."""
    return PublicUser(
        id=user_id or new_id(), email=f"user{number}@example.com", username=f"User-{number}", email_verified=False,
        display_name=None, attributes={}, is_active=True, status="active", version=1, created_at=now, updated_at=now,
    )  # fmt: skip


@dataclass(slots=True)
class Life:
    """One user's events, made one after the other."""

    user: PublicUser
    rng: random.Random
    now: datetime = START
    erased: bool = False
    records: list[FakeRecord] = field(default_factory=list)

    @classmethod
    def begin(cls, number: int, rng: random.Random, now: datetime = START) -> Self:
        """Register."""
        user_id = UUID(int=rng.getrandbits(128))
        life = cls(new_user(number, now=now, user_id=user_id), rng, now)
        life.records.append(record(UserRegistered(user=life.user), now=now))
        return life

    def step(self) -> None:
        """Whatever comes next; nothing after an erasure."""
        if self.erased:
            return
        self.now += timedelta(seconds=self.rng.randint(1, 100_000))
        choice = self.rng.randrange(10)
        if choice == 0:
            self.erase()
        elif choice == 9:
            self.records.append(record(UserSnapshot(user=self.user), now=self.now))
        elif not self.user.is_active:
            self._change(UserReactivated, is_active=True, status="active")
        elif choice == 1:
            self._change(UserEmailChanged, email=f"e{self.rng.randrange(10**6)}@example.com", email_verified=False)
        elif choice == 2:
            self._change(UserUsernameChanged, username=f"Ünñame{self.rng.randrange(10**6)}")
        elif choice == 3:
            self._change(UserPasswordChanged)
        elif choice == 4:
            self._change(UserDeactivated, is_active=False, status="deactivated")
        else:
            self._change(UserProfileChanged, display_name=f"Name {self.rng.randrange(100)}", attributes={"a": [1, "x"]})

    def erase(self) -> None:
        """The last event there is."""
        self.erased = True
        self.records.append(record(UserErased(self.user.id, self.user.version + 1), now=self.now))

    def _change(self, kind: type[ChangeEvent], **changes: object) -> None:
        before = self.user
        self.user = before.model_copy(update={**changes, "version": before.version + 1, "updated_at": self.now})
        previous = {name: getattr(before, name) for name, value in changes.items() if getattr(before, name) != value}
        self.records.append(record(kind(user=self.user, previous=previous), now=self.now))


def lives(users: int, steps: int, seed: int, *, partitions: int = 3) -> list[FakeRecord]:
    """The events of several users, mixed, on several partitions, each user's in order."""
    rng = random.Random(seed)
    population = [Life.begin(number, rng, START + timedelta(hours=7 * number)) for number in range(users)]
    for _ in range(steps):
        rng.choice(population).step()
    queues = [list(life.records) for life in population]
    ends = dict.fromkeys(range(partitions), 0)
    mixed = []
    while any(queues):
        queue = rng.choice([queue for queue in queues if queue])
        item = queue.pop(0)
        partition = sum(item.key or b"") % partitions
        # Transaction markers and compaction leave gaps.
        offset = ends[partition] + (rng.random() < 0.1)
        ends[partition] = offset + 1
        mixed.append(replace(item, partition=partition, offset=offset))
    return mixed


class Publisher:
    """Publishes records in Kafka transactions."""

    def __init__(self, producer: AIOKafkaProducer, topic: str) -> None:
        self.topic = topic
        self._producer = producer

    @classmethod
    @asynccontextmanager
    async def open(cls, kafka: Kafka, topic: str) -> AsyncIterator[Self]:
        """A producer of a transactional id of its own."""
        producer = AIOKafkaProducer(
            **client_arguments(kafka), transactional_id=f"tests-{new_id()}", max_request_size=20 * 1024 * 1024
        )
        await producer.start()
        try:
            yield cls(producer, topic)
        finally:
            await producer.stop()

    async def publish(
        self, records: Iterable[FakeRecord], *, abort: bool = False, timestamp: int | None = None
    ) -> None:
        """One transaction with these records, stamped now or so; `abort` leaves them on the topic, unreadable."""
        await self._producer.begin_transaction()
        futures = [
            await self._producer.send(
                self.topic, item.value, key=item.key, headers=list(item.headers), timestamp_ms=timestamp
            )
            for item in records
        ]
        for future in futures:
            await future
        await (self._producer.abort_transaction() if abort else self._producer.commit_transaction())
