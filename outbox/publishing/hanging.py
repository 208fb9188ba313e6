"""Transactions that hang: over for the coordinator, open for a partition, because a marker was never written there.

Kafka 4.3.1 can do this (KAFKA-20734): a broker that dies while markers are pending may, when it is back, take a
partition without a leader for a deleted one, skip its marker and call the transaction complete. What we committed there
stays invisible to read_committed readers, and our next marker on the partition decides about it: a commit would publish
it late, an abort would lose it; and the remains of an aborted batch would be published by a commit.

So a relay that starts looks whether every partition ends where read_committed readers end. Where one does not, an empty
transaction of our own writes the marker that is missing, with the outcome that the batch really had; what hangs then
still may be the maintenance's, and another roll ends that. A relay starts anew whenever a connection to a broker is
lost (outbox/publishing/producer.py), and looks while it works too (`watching`): what hangs is mended within `bound`
seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.kafka.client import REQUEST_SECONDS
from chassis.lifecycle import alongside
from chassis.postgres.database import describe
from outbox.publishing.publisher import Publisher
from outbox.publishing.record import decode
from outbox.publishing.topic_reading import Readers, newest_between, read_to
from outbox.relay.maintenance import roll_segments
from outbox.relay.work_list import WorkList
from outbox.settings import RelaySettings

log = structlog.get_logger("outbox.hanging")

Outcome = Literal["commit", "abort"]

#: The stable end of partitions on which something is open: where read_committed readers must stop.
Open = dict[TopicPartition, int]

#: Beyond the transaction timeout: others' open transactions on the same partitions have ended by then.
MARGIN_SECONDS: Final = 1.0
#: Markers that may stand behind the last batch on a partition: its own, and one of each maintenance since.
_MARKERS: Final = 1000
#: How often the ends are compared meanwhile.
POLL_SECONDS: Final = 0.1
#: Markers are written within milliseconds after a commit was acknowledged.
MARKER_SECONDS: Final = 3.0

#: A new start, with a roll of the maintenance's, takes a second on a calm machine.
START_SECONDS: Final = 10.0


class TransactionHangsError(Exception):
    """While the relay worked, a transaction was found to hang: the way on is a new start, which mends it."""


def patience(settings: RelaySettings) -> float:
    """Seconds after which a transaction that is still open hangs."""
    return settings.relay_transaction_timeout_ms / 1000 + MARGIN_SECONDS


def bound(settings: RelaySettings) -> float:
    """Seconds within which what hangs is mended while brokers answer: two looks to find it, one start to mend it."""
    return 3 * patience(settings) + 2 * MARKER_SECONDS + START_SECONDS


async def mend(
    work_list: WorkList, publisher: Publisher, readers: Readers, settings: RelaySettings, foreign: Open
) -> int:
    """Write the markers that are missing; call it with the leadership held and the publisher freshly open.

    What cannot be mended is somebody else's transaction: it is told and noted in `foreign`, and not waited for again.

    Returns:
        On how many partitions something hung.

    Raises:
        KafkaError, OSError, TimeoutError: Kafka does not answer; nothing is decided.
    """
    hanging = await hanging_partitions(readers, settings, foreign)
    if not hanging:
        return 0
    await _end_ours(list(hanging), work_list, publisher, readers, settings)
    left = await _still(hanging, readers, settings)
    if left:
        await roll_segments(settings)
        left = await _still(left, readers, settings)
    if left:
        log.warning("relay.foreign_transaction_hangs", partitions=_names(left))
    foreign.clear()
    foreign.update(left)
    return len(hanging)


@asynccontextmanager
async def watching(settings: RelaySettings, foreign: Mapping[TopicPartition, int]) -> AsyncIterator[asyncio.Event]:
    """Look now and then, until the block ends; the event is set when something hangs that is not `foreign`."""
    found = asyncio.Event()
    async with alongside(_watch(settings, foreign, found)):
        yield found


async def hanging_partitions(
    readers: Readers, settings: RelaySettings, foreign: Mapping[TopicPartition, int] | None = None
) -> Open:
    """The partitions on which a transaction stays open although every transaction has had the time to end."""
    deadline = asyncio.get_running_loop().time() + patience(settings)
    while True:
        behind = _without(await open_partitions(readers, settings), foreign or {})
        if not behind or asyncio.get_running_loop().time() > deadline:
            return behind
        await asyncio.sleep(POLL_SECONDS)


async def open_partitions(readers: Readers, settings: RelaySettings) -> Open:
    """The partitions of ours that do not end where read_committed readers end."""
    partitions = [TopicPartition(settings.events_topic, number) for number in range(settings.topic_partitions)]
    partitions.append(_records(settings))
    async with asyncio.timeout(REQUEST_SECONDS):
        # The stable end is asked for first: it can only have grown when the true end is told.
        stable = await readers.committed.end_offsets(partitions)
        ends = await readers.everything.end_offsets(partitions)
    return {partition: stable[partition] for partition in partitions if stable[partition] < ends[partition]}


async def _watch(settings: RelaySettings, foreign: Mapping[TopicPartition, int], found: asyncio.Event) -> None:
    while not found.is_set():
        try:
            await _look(settings, foreign, found)
        except Exception as error:  # noqa: BLE001 - told, and looked again after a pause: nobody else watches
            # The relay's own producer decides what an outage means.
            log.warning("relay.watch_failed", error=describe(error))


async def _look(settings: RelaySettings, foreign: Mapping[TopicPartition, int], found: asyncio.Event) -> None:
    """Compare from look to look: a stable end that has not moved for `patience` stands before what hangs."""
    before: Open = {}
    await asyncio.sleep(patience(settings))
    async with Readers.open(settings) as readers:
        while True:
            behind = _without(await open_partitions(readers, settings), foreign)
            if any(before.get(partition) == stable for partition, stable in behind.items()):
                found.set()
                return
            before = behind
            await asyncio.sleep(patience(settings))


def _without(behind: Open, foreign: Mapping[TopicPartition, int]) -> Open:
    return {partition: stable for partition, stable in behind.items() if foreign.get(partition) != stable}


async def _still(hanging: Open, readers: Readers, settings: RelaySettings) -> Open:
    """What of it hangs after its marker has had the time to be written."""
    deadline = asyncio.get_running_loop().time() + MARKER_SECONDS
    while True:
        behind = await open_partitions(readers, settings)
        left = {partition: stable for partition, stable in hanging.items() if behind.get(partition) == stable}
        if not left or asyncio.get_running_loop().time() > deadline:
            return left
        await asyncio.sleep(POLL_SECONDS)


async def _end_ours(
    hanging: Sequence[TopicPartition],
    work_list: WorkList,
    publisher: Publisher,
    readers: Readers,
    settings: RelaySettings,
) -> None:
    attempted = await newest_between(readers.everything, _records(settings), settings.relay_name.encode())
    # Without any attempt of ours it is none of our batches.
    if attempted is None:
        return
    outcome = await _outcome(attempted, hanging, work_list, readers, settings)
    log.warning("relay.transaction_hangs", partitions=_names(hanging), outcome=outcome)
    await publisher.end_transaction_on(hanging, commit=outcome == "commit")


def _names(partitions: Iterable[TopicPartition]) -> list[str]:
    return [f"{partition.topic}:{partition.partition}" for partition in partitions]


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
