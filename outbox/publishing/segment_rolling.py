"""Making Kafka close the segments of quiet partitions, so that it can clean them.

Kafka compacts closed segments only, and a partition that nobody writes to never closes its last one: the earlier events
of an erased subject would stay in it for ever (tried). One record per partition, in a transaction that is then aborted,
makes Kafka close the segment; read_committed readers see nothing of it.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from aiokafka import AIOKafkaProducer

from chassis.kafka.client import answering, client_arguments
from chassis.lifecycle import wait_at_most
from outbox.settings import RelaySettings

log = structlog.get_logger("outbox.maintenance")

#: A transaction with one small record per partition takes tens of milliseconds.
ROLL_SECONDS: Final = 30.0
#: Marks the aborted records for whoever reads uncommitted.
ROLL_KEY: Final = b"muster.maintenance"


async def roll_segments(settings: RelaySettings) -> None:
    """Write and abort one record per partition of the events topic.

    Raises:
        KafkaError, OSError, TimeoutError: Kafka does not answer.
    """
    producer = AIOKafkaProducer(
        **client_arguments(await answering(settings)),
        transactional_id=settings.maintenance_id,
        transaction_timeout_ms=settings.relay_transaction_timeout_ms,
    )
    try:
        async with asyncio.timeout(ROLL_SECONDS):
            await producer.start()
            await producer.begin_transaction()
            sent = [
                await producer.send(settings.events_topic, None, key=ROLL_KEY, partition=partition)
                for partition in range(settings.topic_partitions)
            ]
            for future in sent:
                await future
            await producer.abort_transaction()
    finally:
        await wait_at_most(producer.stop(), ROLL_SECONDS)
    log.info("maintenance.segments_rolled", partitions=settings.topic_partitions)
