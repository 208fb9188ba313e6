"""Where topics end, asked of the brokers."""

from __future__ import annotations

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import UnknownTopicOrPartitionError

from chassis.kafka.client import REQUEST_SECONDS, client_arguments
from chassis.settings import Kafka


async def end_positions(kafka: Kafka, topic: str, partitions: int) -> dict[int, int]:
    """Where each partition of a topic ends for read_committed readers.

    Raises:
        UnknownTopicOrPartitionError: there is no such topic.
        KafkaError, OSError, TimeoutError: no broker answered.
    """
    consumer = AIOKafkaConsumer(**client_arguments(kafka), isolation_level="read_committed", group_id=None)
    try:
        await asyncio.wait_for(consumer.start(), REQUEST_SECONDS)
        # If asked for the ends of a topic that is not there, aiokafka would look for it until the time is over.
        if topic not in await asyncio.wait_for(consumer.topics(), REQUEST_SECONDS):
            raise UnknownTopicOrPartitionError(topic)
        wanted = [TopicPartition(topic, number) for number in range(partitions)]
        ends = await asyncio.wait_for(consumer.end_offsets(wanted), REQUEST_SECONDS)
        return {partition.partition: end for partition, end in ends.items()}
    finally:
        await consumer.stop()
