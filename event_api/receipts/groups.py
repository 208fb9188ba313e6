"""How far consumer groups have committed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from chassis.kafka.client import admin
from chassis.kafka.refusals import explain
from chassis.settings import Kafka
from event_api.log.consuming import AWAY, LogAwayError

#: For all groups together; each takes two requests of milliseconds.
ANSWER_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 0.1


async def committed(
    kafka: Kafka, groups: Iterable[str], topic: str, numbers: Sequence[int]
) -> dict[str, dict[int, int]]:
    """By group and partition, the next offset that a group has committed, 0 where none; of no group without asking.

    Raises:
        LogAwayError: the brokers do not answer, or not us.
    """
    wanted = [TopicPartition(topic, number) for number in numbers]
    found: dict[str, dict[int, int]] = {}
    if not (names := sorted(set(groups))):
        return found
    try:
        async with asyncio.timeout(ANSWER_SECONDS), admin(kafka) as client:
            for name in names:
                found[name] = await _offsets(client, name, wanted)
    except AWAY as error:
        raise LogAwayError(explain(error)) from error
    return found


async def _offsets(client: AIOKafkaAdminClient, group: str, wanted: list[TopicPartition]) -> dict[int, int]:
    while True:
        try:
            found = await client.list_consumer_group_offsets(group, partitions=wanted)
            # aiokafka says nothing of a coordinator that is still loading: it is an answer without what was asked for.
            if all(each in found for each in wanted):
                return {each.partition: max(found[each].offset, 0) for each in wanted}
        except KafkaError as error:
            if not error.retriable:
                raise
        # The very first group of a cluster has no coordinator for a moment.
        await asyncio.sleep(RETRY_SECONDS)
