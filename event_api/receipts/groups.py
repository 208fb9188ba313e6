"""The offsets that consumer groups have committed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

import structlog
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, NoError

from chassis.kafka.client import admin
from chassis.kafka.refusals import explain
from chassis.settings import Kafka
from event_api.log.consuming import AWAY, LogAwayError

log = structlog.get_logger("receipts")

#: The time for one group: it takes two requests of milliseconds. One whose coordinator is away keeps a receipt no
#: longer.
GROUP_SECONDS: Final = 3.0
#: The time for all of them.
ANSWER_SECONDS: Final = 10.0
#: Groups that are asked about at once.
AT_ONCE: Final = 20
RETRY_SECONDS: Final = 0.1


async def committed(
    kafka: Kafka, groups: Iterable[str], topic: str, numbers: Sequence[int]
) -> dict[str, dict[int, int]]:
    """The next offset of each group by partition, 0 where it has committed none; without groups nobody is asked.

    A group that cannot be told of in time, or that we may not look at, is left out.

    Raises:
        LogAwayError: the brokers do not answer, or do not let us in.
    """
    wanted = [TopicPartition(topic, number) for number in numbers]
    if not (names := sorted(set(groups))):
        return {}
    turns, end = asyncio.Semaphore(AT_ONCE), asyncio.get_running_loop().time() + ANSWER_SECONDS
    try:
        async with admin(kafka) as client:
            found = await asyncio.gather(*(_told(client, name, wanted, turns, end) for name in names))
    except AWAY as error:
        raise LogAwayError(explain(error)) from error
    return {name: offsets for name, offsets in zip(names, found, strict=True) if offsets is not None}


async def _told(
    client: AIOKafkaAdminClient, group: str, wanted: list[TopicPartition], turns: asyncio.Semaphore, end: float
) -> dict[int, int] | None:
    try:
        async with asyncio.timeout_at(end), turns, asyncio.timeout(GROUP_SECONDS):
            return await _offsets(client, group, wanted)
    except AWAY as error:
        log.warning("receipts.group_unknown", group=group, reason=explain(error))
        return None


async def _offsets(client: AIOKafkaAdminClient, group: str, wanted: list[TopicPartition]) -> dict[int, int]:
    while True:
        try:
            found = await client.list_consumer_group_offsets(group, partitions=wanted)
            # aiokafka says nothing of a coordinator that is still loading: it is an answer without what was asked for.
            if all(each in found for each in wanted):
                return {each.partition: max(found[each].offset, 0) for each in wanted}
        except NoError:
            # Aiokafka raises it for any error of a single partition: it looks up the wrong code.
            pass
        except KafkaError as error:
            if not error.retriable:
                raise
        # The very first group of a cluster has no coordinator for a moment.
        await asyncio.sleep(RETRY_SECONDS)
