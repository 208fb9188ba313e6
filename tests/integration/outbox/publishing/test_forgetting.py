"""Kafka really forgets an erased person, on a quiet partition too, and keeps everybody else's last state.

A broker whose cleaner looks twice a second, and topics whose lags are seconds instead of days.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from aiokafka.partitioner import murmur2

from chassis.identifiers import new_id
from chassis.kafka.client import admin, ensure_topics
from chassis.settings import Kafka, PostgresAddress, Topics
from local_stack.kafka.broker import KafkaServer
from outbox.relay.maintenance import maintaining
from outbox.settings import RelaySettings
from outbox.topics import wanted_topics
from tests.integration.outbox.relaying import relaying, settings_for
from tests.integration.outbox.traffic import Connection, append, consume, until_empty
from tests.waiting import until

CANARY = b'{"user":{"email":"canary@example.com"}}'
PARTITIONS = 3


@pytest.fixture
async def forgetful(command_database: PostgresAddress, server_folder: Path) -> AsyncIterator[RelaySettings]:
    """A relay's settings for a broker and topics that forget within seconds."""
    cleaner = {"log.cleaner.backoff.ms": "500", "log.retention.check.interval.ms": "500"}
    async with KafkaServer(server_folder / "kafka", learn=False, settings=cleaner) as broker:
        kafka = Kafka.model_construct(kafka_bootstrap_servers=broker.bootstrap_servers)
        topics = Topics.model_construct(
            topic_min_compaction_lag_ms=0,
            topic_max_compaction_lag_ms=1000,
            topic_delete_retention_ms=500,
            topic_segment_ms=500,
            topic_partitions=PARTITIONS,
        )
        async with admin(kafka) as client:
            await ensure_topics(client, wanted_topics(topics))
        yield settings_for(command_database, kafka, topics)


def user_on(partition: int) -> UUID:
    """A user whose events go to this partition."""
    while True:
        user = new_id()
        if (murmur2(str(user).encode()) & 0x7FFFFFFF) % PARTITIONS == partition:
            return user


async def test_an_erased_person_is_gone_from_the_topic_and_all_others_keep_their_last_state(
    connection: Connection, forgetful: RelaySettings
) -> None:
    alone, erased, neighbour, elsewhere = user_on(0), user_on(1), user_on(1), user_on(2)
    async with relaying(forgetful), maintaining(forgetful):
        for version in (1, 2, 3):
            for user in (alone, erased, neighbour, elsewhere):
                await append(connection, user, version, CANARY if user in (alone, erased) else b'{"kept":true}')
        for user in (alone, erased):
            await append(connection, user, 4, None)
        await until_empty(connection)

        async def forgotten() -> bool:
            raw = await consume(forgetful, "read_uncommitted")
            return not any(record.value == CANARY for record in raw.records)

        await until(forgotten, within=60, what="Kafka to forget the erased")

    versions = (await consume(forgetful)).versions()
    assert versions[str(neighbour)][-1] == 3
    assert versions[str(elsewhere)][-1] == 3
