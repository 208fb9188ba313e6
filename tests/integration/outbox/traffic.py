"""Appending to the outbox as commands do, and consuming the topic as a subscriber does."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Self
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from chassis.identifiers import new_id
from chassis.kafka.client import client_arguments
from events.envelope import Envelope
from outbox.headers import encode_headers
from outbox.settings import RelaySettings
from tests.waiting import until

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:  # generic in the stubs alone
    Connection = asyncpg.Connection

COLUMNS = "event_id, subject_id, value, headers"
APPEND = f"INSERT INTO outbox ({COLUMNS}) SELECT $1, $2, $3, $4 RETURNING id"


def envelope(user_id: UUID, version: int) -> Envelope:
    """An event's envelope; only user and version matter here."""
    return Envelope(
        event_id=new_id(),
        type="muster.user.profile_changed.v1",
        source="/muster/users",
        subject_id=user_id,
        version=version,
        time=datetime.now(UTC),
        correlation_id="test",
        causation_id="test",
    )


async def append(connection: Connection, user_id: UUID, version: int, value: bytes | None = b"{}") -> int:
    """Append one event in the session's current transaction; gives its outbox id."""
    event = envelope(user_id, version)
    number: int = await connection.fetchval(APPEND, event.event_id, user_id, value, encode_headers(event))
    return number


async def append_many(connection: Connection, users: list[UUID], versions: int) -> int:
    """Append `versions` events for each user, in version order; gives how many that are."""
    events = [envelope(user, version) for version in range(1, versions + 1) for user in users]
    rows = [(event.event_id, event.subject_id, b"{}", encode_headers(event)) for event in events]
    await connection.copy_records_to_table("outbox", records=rows, columns=COLUMNS.split(", "))
    return len(rows)


@dataclass(frozen=True, slots=True)
class Published:
    """What a read_committed consumer has found on the topic."""

    records: list[ConsumerRecord]

    def versions(self) -> dict[str, list[int]]:
        """The versions of each user, in the order of the topic."""
        versions: dict[str, list[int]] = {}
        for record in self.records:
            headers = dict(record.headers)
            versions.setdefault(record.key.decode(), []).append(int(headers["ce_sequence"]))
        return versions

    def event_ids(self) -> list[str]:
        """The events' ids."""
        return [dict(record.headers)["ce_id"].decode() for record in self.records]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What became of events: how many are missing, are there twice, or stand before an earlier one."""

    lost: int
    repeated: int
    inverted: int

    @classmethod
    def of(cls, seen: Mapping[str, list[int]], wanted: Mapping[str, int]) -> Self:
        """What was seen of each user beside versions 1 to the one that is wanted."""
        versions = {user: seen.get(user, []) for user in wanted}
        return cls(
            lost=sum(len(set(range(1, last + 1)) - set(versions[user])) for user, last in wanted.items()),
            repeated=sum(len(each) - len(set(each)) for each in versions.values()),
            inverted=sum(after < before for each in versions.values() for before, after in pairwise(each)),
        )


async def consume(settings: RelaySettings, isolation_level: str = "read_committed", *, within: float = 60) -> Published:
    """Everything on the events topic up to its true end as it is now.

    A commit is acknowledged before its markers are on every partition, so what a committed reader is told of as the end
    may still be short of it: the end is asked of an uncommitted one.
    """
    partitions = [TopicPartition(settings.events_topic, n) for n in range(settings.topic_partitions)]
    async with _consumer(settings, "read_uncommitted") as anybody:
        ends = await anybody.end_offsets(partitions)
    async with _consumer(settings, isolation_level) as consumer:
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        records: list[ConsumerRecord] = []

        async def at_the_end() -> bool:
            for batch in (await consumer.getmany(timeout_ms=50)).values():
                records.extend(batch)
            return all([await consumer.position(p) >= end for p, end in ends.items()])

        await until(at_the_end, within=within, what="the end of the topic")
        return Published(records)


@asynccontextmanager
async def _consumer(settings: RelaySettings, isolation_level: str) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(**client_arguments(settings), isolation_level=isolation_level, enable_auto_commit=False)
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


async def until_empty(connection: Connection, within: float = 30) -> None:
    """Wait until the relay has published and deleted everything."""

    async def empty() -> bool:
        return not await connection.fetchval("SELECT EXISTS (SELECT FROM outbox)")

    await until(empty, within=within, what="an empty outbox")
