"""Transactions that hang: over for the coordinator, open for a partition, because a marker was never written there.

Kafka 4.3.1 can do this (KAFKA-20734): a broker that dies while markers are pending may, when it is back, take a
partition without a leader for a deleted one, skip its marker and call the transaction complete. What we committed there
stays invisible to read_committed readers, and our next marker on the partition decides about it: a commit would publish
it late, an abort would lose it; and the remains of an aborted batch would be published by a commit.

So a relay that starts looks whether every partition ends where read_committed readers end. Where one does not, an empty
transaction of our own writes the marker that is missing, with the outcome that the batch really had.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Literal

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from outbox.publisher import Publisher
from outbox.reading import Readers, newest_between, read_to
from outbox.record import decode
from outbox.settings import RelaySettings
from outbox.work_list import WorkList

log = structlog.get_logger("outbox.hanging")

Outcome = Literal["commit", "abort"]

#: Beyond the transaction timeout: others' open transactions on the same partitions have ended by then.
MARGIN_SECONDS: Final = 1.0
#: Markers that may stand behind the last batch on a partition: its own, and one of each maintenance since.
_MARKERS: Final = 1000
#: How often the ends are compared meanwhile.
POLL_SECONDS: Final = 0.1


async def mend(work_list: WorkList, publisher: Publisher, readers: Readers, settings: RelaySettings) -> int:
    """Write the markers that are missing; call it with the leadership held and the publisher freshly open.

    Returns:
        On how many partitions something hung.

    Raises:
        KafkaError, OSError, TimeoutError: Kafka does not answer; nothing is decided.
    """
    hanging = await hanging_partitions(readers, settings)
    if not hanging:
        return 0
    attempted = await newest_between(readers.everything, _records(settings), settings.relay_name.encode())
    # Without any attempt of ours it is somebody else's transaction, and none of our business.
    if attempted is None:
        return 0
    outcome = await _outcome(attempted, hanging, work_list, readers, settings)
    log.warning("relay.transaction_hangs", partitions=[f"{p.topic}:{p.partition}" for p in hanging], outcome=outcome)
    await publisher.end_transaction_on(hanging, commit=outcome == "commit")
    return len(hanging)


async def hanging_partitions(readers: Readers, settings: RelaySettings) -> list[TopicPartition]:
    """The partitions on which a transaction stays open although every transaction has had the time to end."""
    partitions = [TopicPartition(settings.events_topic, number) for number in range(settings.topic_partitions)]
    partitions.append(_records(settings))
    patience = settings.relay_transaction_timeout_ms / 1000 + MARGIN_SECONDS
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        # The stable end is asked for first: it can only have grown when the true end is told.
        stable = await readers.committed.end_offsets(partitions)
        ends = await readers.everything.end_offsets(partitions)
        behind = [partition for partition in partitions if stable[partition] < ends[partition]]
        if not behind or asyncio.get_running_loop().time() > deadline:
            return behind
        await asyncio.sleep(POLL_SECONDS)


def _records(settings: RelaySettings) -> TopicPartition:
    return TopicPartition(settings.relay_topic, 0)


async def _outcome(
    attempted: bytes,
    hanging: Sequence[TopicPartition],
    work_list: WorkList,
    readers: Readers,
    settings: RelaySettings,
) -> Outcome:
    """What became of the last batch, whose record `attempted` is: every marker that was written says the same."""
    records = _records(settings)
    if records not in hanging:
        committed = await newest_between(readers.committed, records, settings.relay_name.encode())
        return "commit" if committed == attempted else "abort"
    rows = await work_list.find(decode(attempted).ids)
    # Rows are deleted after a commit only.
    if not rows:
        return "commit"
    event_ids = {event_id.encode() for _, event_id in rows}
    for number in range(settings.topic_partitions):
        partition = TopicPartition(settings.events_topic, number)
        if partition not in hanging and (seen := await _seen(partition, event_ids, readers)):
            return seen
    # No partition has a marker that tells, and the rows are still there: abort, and publish them again.
    return "abort"


async def _seen(partition: TopicPartition, event_ids: set[bytes], readers: Readers) -> Outcome | None:
    """Whether an event of the batch is on a partition, and if so, whether it is committed there."""
    if await _offset_of(readers.everything, partition, event_ids) is None:
        return None
    return "commit" if await _offset_of(readers.committed, partition, event_ids) is not None else "abort"


async def _offset_of(reader: AIOKafkaConsumer, partition: TopicPartition, event_ids: set[bytes]) -> int | None:
    """Where the newest of these events is, looking back over a batch and what may have been written since."""
    begin = (await reader.beginning_offsets([partition]))[partition]
    end = (await reader.end_offsets([partition]))[partition]
    reader.assign([partition])
    found = None
    async for message in read_to(reader, partition, max(begin, end - len(event_ids) - _MARKERS), end):
        if dict(message.headers).get("ce_id") in event_ids:
            found = message.offset
    return found
