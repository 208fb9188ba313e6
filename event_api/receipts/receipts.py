"""Receipts: an erasure, who is past it, and what the log still has, in one signed statement."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, Self
from uuid import UUID

from chassis.clock import rfc3339, utc_now
from chassis.lifecycle import alongside
from chassis.postgres.database import Database
from chassis.settings import Kafka, PostgresAddress, Topics
from event_api.log.log import EventLog
from event_api.receipts.erasures import Erasure, ErasureStore, time_to_forget
from event_api.receipts.forgetting import Looks
from event_api.receipts.groups import committed
from event_api.receipts.signing import ReceiptKeys
from event_api.receipts.subscribers import Subscriber, SubscriberStore

Json = dict[str, Any]

#: Receipts are asked for now and then: these stay open, and as many more come and go.
CONNECTIONS: Final = 2
#: The brokers' clock may be ahead of the database's by so much.
CLOCKS_DIFFER: Final = timedelta(minutes=1)
#: No statement here reads more than a page; whoever waits longer is told to come back.
STATEMENT_SECONDS: Final = 5.0


class Receipts:
    """Makes receipts, and keeps what they need."""

    def __init__(self, keys: ReceiptKeys, database: Database, log: EventLog, *, kafka: Kafka, topics: Topics) -> None:
        """Nothing is read yet."""
        self._keys, self._log, self._kafka, self._topic = keys, log, kafka, topics.events_topic
        self.subscribers: Final = SubscriberStore(database)
        self.erasures: Final = ErasureStore(database, time_to_forget(topics))

    @classmethod
    @asynccontextmanager
    async def open(
        cls, keys: ReceiptKeys, log: EventLog, *, database: PostgresAddress, kafka: Kafka, topics: Topics
    ) -> AsyncIterator[Self]:
        """Get ready, and look at the log in the background until the block ends; works without a database, too."""
        address = replace(
            database,
            pool_size=min(database.pool_size, CONNECTIONS),
            max_overflow=min(database.max_overflow, CONNECTIONS),
        )
        looks = Looks(database, kafka, topics.events_topic, time_to_forget(topics))
        async with (
            Database.open(address, application="muster event API", seconds=STATEMENT_SECONDS) as opened,
            alongside(looks.run()),
        ):
            yield cls(keys, opened, log, kafka=kafka, topics=topics)

    async def receipt(self, user_id: UUID) -> Json | None:
        """The receipt of a user's erasure, None where nobody of that id was erased.

        Raises:
            DatabaseUnavailableError, NoReadTableError, LogAwayError: it cannot be told now.
        """
        erasure = await self.erasures.find(user_id)
        if erasure is None:
            return None
        subscribers = await self.subscribers.all()
        reached = await self._committed(erasure, subscribers)
        past = [{"name": each.name, "past": is_past(each, erasure, reached)} for each in subscribers]
        told = described(erasure)
        log = told.pop("log")
        return self._keys.signed({**told, "subscribers": past, "log": log}, utc_now())

    async def subscribers_with_offsets(self) -> list[tuple[Subscriber, list[int | None] | None]]:
        """Each with the next offset of each partition of the present topic, as far as that is known of it.

        Raises:
            DatabaseUnavailableError, LogAwayError: it cannot be told now.
        """
        known, numbers = await self.subscribers.all(), range(self._log.partitions)
        groups = {each.group for each in known if each.group is not None}
        reached = await committed(self._kafka, groups, self._topic, numbers)
        return [(each, self._offsets(each, reached, numbers)) for each in known]

    def _offsets(
        self, subscriber: Subscriber, reached: dict[str, dict[int, int]], numbers: range
    ) -> list[int | None] | None:
        """The group's, where one is named, None where it could not be told; else what was acknowledged on this log."""
        if subscriber.group is not None:
            offsets = reached.get(subscriber.group)
            return None if offsets is None else [offsets.get(number) for number in numbers]
        return [*subscriber.offsets] if subscriber.offsets and subscriber.topic_id == self._log.topic_id else None

    async def _committed(self, erasure: Erasure, subscribers: list[Subscriber]) -> dict[str, int]:
        """The place of each group in the erasure's partition; none where the erasure is on another log than they."""
        groups = {each.group for each in subscribers if each.group is not None}
        if not groups or erasure.partition is None or erasure.topic != self._topic:
            return {}
        if erasure.topic_id != self._log.topic_id:
            return {}
        found = await committed(self._kafka, groups, erasure.topic, [erasure.partition])
        return {group: offsets.get(erasure.partition, 0) for group, offsets in found.items()}


def described(erasure: Erasure) -> Json:
    """The part of an erasure that is told to everybody."""
    return {
        "user_id": str(erasure.user_id),
        "erased_at": erasure.erased_at and rfc3339(erasure.erased_at),
        "partition": erasure.partition,
        "offset": erasure.offset,
        "log": {
            "forgotten": erasure.forgotten,
            "expected_by": erasure.expected_by and rfc3339(erasure.expected_by),
        },
    }


def is_past(subscriber: Subscriber, erasure: Erasure, committed: dict[str, int]) -> bool | None:
    """Whether a subscriber has read the tombstone, by what its group committed or, without one, it acknowledged.

    None where nobody can tell: the erasure has no place, what is known of the subscriber is on another log, or of one
    that had fewer partitions then, or its group could not be asked. What was acknowledged before the tombstone was
    there is no word of it: brokers that were set back had other records at these offsets.
    """
    if erasure.partition is None or erasure.offset is None:
        return None
    if subscriber.group is not None:
        reached = committed.get(subscriber.group)
    elif subscriber.offsets is None or _spoke_before(subscriber, erasure):
        reached = 0
    elif subscriber.topic_id == erasure.topic_id and erasure.partition < len(subscriber.offsets):
        reached = subscriber.offsets[erasure.partition]
    else:
        reached = None
    return None if reached is None else reached > erasure.offset


def _spoke_before(subscriber: Subscriber, erasure: Erasure) -> bool:
    spoke, published = subscriber.acknowledged_at, erasure.published_at
    return spoke is not None and published is not None and spoke < published - CLOCKS_DIFFER
