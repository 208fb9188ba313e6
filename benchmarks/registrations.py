"""Registrations on the topic as a relay would have published them, for benchmarks that read a topic."""

import asyncio
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Final

from aiokafka import AIOKafkaProducer

from benchmarks.population import PARTITIONS, user_id
from benchmarks.references.kafka.producer import BATCH_BYTES, Message
from chassis.identifiers import new_id
from chassis.kafka.client import client_arguments
from chassis.settings import Kafka
from events.envelope import Envelope
from events.user_events import USER_EVENTS, PublicUser, UserRegistered

#: Half of what a relay with a backlog puts into one transaction, so that readers meet more markers and not fewer.
TRANSACTION_RECORDS: Final = 4000
TRANSACTION_SECONDS: Final = 60.0
#: Of a million: what a broker takes in a second or two.
MANY_RECORDS: Final = 10_000
_NAME: Final = b"@name@"


def registrations(users: int) -> Iterator[Message]:
    """Return the registration event of each user of population.py."""
    now = datetime.now(UTC)
    for number in range(1, users + 1):
        user = PublicUser(
            id=user_id(number), email=f"user{number}@example.com", username=f"User-{number}", email_verified=False,
            display_name=None, attributes={}, is_active=True, status="active", version=1, created_at=now,
            updated_at=now,
        )  # fmt: skip
        event = UserRegistered(user=user)
        envelope = Envelope(
            event_id=new_id(), source=USER_EVENTS.source, type=USER_EVENTS.event_type(event),
            subject_id=user.id, version=1, time=now,
            correlation_id="benchmark", causation_id="benchmark",
        )  # fmt: skip
        yield Message(str(user.id).encode(), USER_EVENTS.encode(event), envelope.headers())


async def publish(settings: Kafka, topic: str, messages: Iterable[Message]) -> int:
    """Put the messages on a topic in transactions; return their number."""
    producer = AIOKafkaProducer(
        **client_arguments(settings), transactional_id="benchmark", compression_type="lz4", max_batch_size=BATCH_BYTES
    )
    await producer.start()
    count = 0
    try:
        following = iter(messages)
        while portion := list(islice(following, TRANSACTION_RECORDS)):
            async with asyncio.timeout(TRANSACTION_SECONDS), producer.transaction():
                futures = [await producer.send(topic, m.value, key=m.key, headers=m.headers) for m in portion]
                await asyncio.gather(*futures)
            count += len(portion)
    finally:
        await producer.stop()
    return count


async def publish_many(settings: Kafka, topic: str, users: int) -> None:
    """Make registrations from one by exchanging ids and names, which is fast: a million in a fraction of a minute."""
    [sample] = registrations(1)
    assert sample.value is not None
    value, now = sample.value.replace(b"user1@", _NAME + b"@").replace(b"User-1", _NAME), datetime.now(UTC)
    producer = AIOKafkaProducer(
        **client_arguments(settings), transactional_id="benchmark-many", compression_type="lz4",
        max_batch_size=BATCH_BYTES,
    )  # fmt: skip
    await producer.start()
    try:
        for start in range(1, users + 1, MANY_RECORDS):
            async with producer.transaction():
                sent = []
                for number in range(start, min(start + MANY_RECORDS, users + 1)):
                    envelope = Envelope(
                        event_id=new_id(), source=USER_EVENTS.source, type=UserRegistered.type(),
                        subject_id=user_id(number), version=1, time=now, correlation_id="b", causation_id="b",
                    )  # fmt: skip
                    key = str(envelope.subject_id).encode()
                    sent.append(
                        await producer.send(
                            topic,
                            value.replace(sample.key, key).replace(_NAME, b"user%d" % number),
                            key=key,
                            # It only matters that a user's events share a partition; hashing keys would be slow.
                            partition=number % PARTITIONS,
                            headers=envelope.headers(),
                        )
                    )
                await asyncio.gather(*sent)
    finally:
        await producer.stop()
