"""Hanging transactions: the coordinator has ended one, but on a partition it is still open, for want of a marker.

Kafka 4.3.1 can leave one (KAFKA-20734): a broker dies while markers are pending; when it is back, it may take a
partition without a leader for a deleted one, skip its marker and call the transaction complete. What we committed there
stays invisible to read_committed readers, and our next marker on the partition decides about it: a commit would publish
it late, an abort would lose it, and a commit would also publish the remains of an aborted page.

So a relay that starts compares where every partition ends with where read_committed readers must stop (the last stable
offset). Where the two differ, an empty transaction of our own writes the missing marker, with the result that the page
really had. What hangs after that may be the maintenance's transaction, and another roll of segments ends that one.

A relay starts anew whenever it loses a connection to a broker (outbox/publishing/producer.py), and it looks while it
works too (`watching`). So what hangs is mended within `mending_seconds`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from chassis.kafka.client import REQUEST_SECONDS
from chassis.lifecycle import alongside
from chassis.outages import Outage
from chassis.postgres.database import describe
from outbox.publishing.page_marker import decode_page_marker
from outbox.publishing.publisher import Publisher
from outbox.publishing.segment_rolling import roll_segments
from outbox.publishing.topic_reading import Readers, newest_value, read_until
from outbox.settings import RelaySettings

log = structlog.get_logger("outbox.hanging")

TransactionResult = Literal["commit", "abort"]

#: The last stable offset of partitions on which a transaction is open.
StableOffsets = dict[TopicPartition, int]

#: Gives those of these outbox ids that are in the outbox, with their event ids.
FindRows = Callable[[Sequence[int]], Awaitable[list[tuple[int, str]]]]

#: Seconds beyond the transaction timeout: by then others' open transactions on the same partitions have ended.
MARGIN_SECONDS: Final = 1.0
#: Markers that may stand behind the last page on a partition: its own, and one for each roll of segments since.
_MARKERS: Final = 1000
#: The ends are compared this often meanwhile.
POLL_SECONDS: Final = 0.1
#: Markers are written within milliseconds after a commit was acknowledged.
MARKER_SECONDS: Final = 3.0
#: A new start of the relay, with a roll of segments, takes a second on a calm machine.
RESTART_SECONDS: Final = 10.0


class TransactionHangsError(Exception):
    """A transaction was found to hang while the relay worked; a new start mends it."""


def hanging_after_seconds(settings: RelaySettings) -> float:
    """Seconds that a transaction may be open before it counts as hanging."""
    return settings.relay_transaction_timeout_ms / 1000 + MARGIN_SECONDS


def mending_seconds(settings: RelaySettings) -> float:
    """Within how long a hanging transaction is mended while brokers answer: two looks find it, one start mends it."""
    return 3 * hanging_after_seconds(settings) + 2 * MARKER_SECONDS + RESTART_SECONDS


@dataclass(frozen=True, slots=True)
class Mender:
    """Writes missing markers; use it with the leadership held and the publisher freshly open."""

    settings: RelaySettings
    publisher: Publisher
    readers: Readers
    find_rows: FindRows

    async def mend(self, foreign: StableOffsets) -> int:
        """Write the markers that are missing.

        What cannot be mended is somebody else's transaction: it is logged and noted in `foreign`, and the next start
        does not wait for it again.

        Returns:
            On how many partitions something hung.

        Raises:
            KafkaError, OSError, TimeoutError: Kafka does not answer; nothing is decided.
        """
        hanging = await hanging_partitions(self.readers, self.settings, foreign)
        if not hanging:
            return 0
        await self._end_ours(list(hanging))
        left = await self._still_hanging(hanging)
        if left:
            await roll_segments(self.settings)
            left = await self._still_hanging(left)
        if left:
            log.warning("relay.foreign_transaction_hangs", partitions=_names(left))
        foreign.clear()
        foreign.update(left)
        return len(hanging)

    async def _end_ours(self, hanging: Sequence[TopicPartition]) -> None:
        attempted = await self._newest_record(self.readers.uncommitted)
        # None of our pages hangs without an attempt of ours.
        if attempted is None:
            return
        result = await self._result(attempted, hanging)
        log.warning("relay.transaction_hangs", partitions=_names(hanging), outcome=result)
        await self.publisher.end_transaction_on(hanging, commit=result == "commit")

    async def _still_hanging(self, hanging: StableOffsets) -> StableOffsets:
        """The partitions that still hang after their marker has had the time to be written."""
        deadline = asyncio.get_running_loop().time() + MARKER_SECONDS
        while True:
            now = await open_partitions(self.readers, self.settings)
            left = {partition: stable for partition, stable in hanging.items() if now.get(partition) == stable}
            if not left or asyncio.get_running_loop().time() > deadline:
                return left
            await asyncio.sleep(POLL_SECONDS)

    async def _result(self, attempted: bytes, hanging: Sequence[TopicPartition]) -> TransactionResult:
        """The result of the last page, whose record is `attempted`: all markers that were written say the same."""
        if _relay_partition(self.settings) not in hanging:
            return "commit" if await self._newest_record(self.readers.committed) == attempted else "abort"
        rows = await self.find_rows(decode_page_marker(attempted).ids)
        # Rows are deleted after a commit only.
        if not rows:
            return "commit"
        event_ids = {event_id.encode() for _, event_id in rows}
        for partition in _events_partitions(self.settings):
            if partition not in hanging and (result := await self._result_on(partition, event_ids)):
                return result
        # No marker tells, and the rows are still there: abort, and publish them again.
        return "abort"

    async def _result_on(self, partition: TopicPartition, event_ids: set[bytes]) -> TransactionResult | None:
        """The result that a partition shows, or None where no event of the page is on it."""
        if not await _holds_any(self.readers.uncommitted, partition, event_ids):
            return None
        return "commit" if await _holds_any(self.readers.committed, partition, event_ids) else "abort"

    async def _newest_record(self, reader: AIOKafkaConsumer) -> bytes | None:
        return await newest_value(reader, _relay_partition(self.settings), self.settings.relay_name.encode())


@asynccontextmanager
async def watching(settings: RelaySettings, foreign: Mapping[TopicPartition, int]) -> AsyncIterator[asyncio.Event]:
    """Look now and then until the block ends; the event is set when something hangs that is not `foreign`."""
    found = asyncio.Event()
    async with alongside(_keep_watching(settings, foreign, found)):
        yield found


async def hanging_partitions(
    readers: Readers, settings: RelaySettings, foreign: Mapping[TopicPartition, int] | None = None
) -> StableOffsets:
    """The partitions on which a transaction stays open although all transactions have had the time to end."""
    deadline = asyncio.get_running_loop().time() + hanging_after_seconds(settings)
    while True:
        behind = _without(foreign or {}, await open_partitions(readers, settings))
        if not behind or asyncio.get_running_loop().time() > deadline:
            return behind
        await asyncio.sleep(POLL_SECONDS)


async def open_partitions(readers: Readers, settings: RelaySettings) -> StableOffsets:
    """Those of our partitions that have records behind their last stable offset."""
    partitions = [*_events_partitions(settings), _relay_partition(settings)]
    async with asyncio.timeout(REQUEST_SECONDS):
        # The stable offset is asked for first: it can only have grown when the end is asked for.
        stable = await readers.committed.end_offsets(partitions)
        ends = await readers.uncommitted.end_offsets(partitions)
    return {partition: stable[partition] for partition in partitions if stable[partition] < ends[partition]}


async def _keep_watching(settings: RelaySettings, foreign: Mapping[TopicPartition, int], found: asyncio.Event) -> None:
    outage = Outage(log, "relay.watch_failed")
    while not found.is_set():
        try:
            await _watch(settings, foreign, found, outage)
        except Exception as error:  # noqa: BLE001 - logged, and looked again after a pause: nobody else watches
            # The relay's own producer decides what an outage means.
            outage.failed(describe(error))


async def _watch(
    settings: RelaySettings, foreign: Mapping[TopicPartition, int], found: asyncio.Event, outage: Outage
) -> None:
    """Compare one look with the next: what hangs holds back a stable offset for the whole pause between them."""
    before: StableOffsets = {}
    pause = hanging_after_seconds(settings)
    await asyncio.sleep(pause)
    async with Readers.open(settings) as readers:
        while True:
            behind = _without(foreign, await open_partitions(readers, settings))
            outage.over()
            if any(before.get(partition) == stable for partition, stable in behind.items()):
                found.set()
                return
            before = behind
            await asyncio.sleep(pause)


def _without(foreign: Mapping[TopicPartition, int], offsets: StableOffsets) -> StableOffsets:
    return {partition: stable for partition, stable in offsets.items() if foreign.get(partition) != stable}


def _names(partitions: Iterable[TopicPartition]) -> list[str]:
    return [f"{partition.topic}:{partition.partition}" for partition in partitions]


def _events_partitions(settings: RelaySettings) -> list[TopicPartition]:
    return [TopicPartition(settings.events_topic, number) for number in range(settings.topic_partitions)]


def _relay_partition(settings: RelaySettings) -> TopicPartition:
    return TopicPartition(settings.relay_topic, 0)


async def _holds_any(reader: AIOKafkaConsumer, partition: TopicPartition, event_ids: set[bytes]) -> bool:
    """Whether the reader sees one of these events, looking back over a page and what may have been written since."""
    begin = (await reader.beginning_offsets([partition]))[partition]
    end = (await reader.end_offsets([partition]))[partition]
    reader.assign([partition])
    start = max(begin, end - len(event_ids) - _MARKERS)
    async for message in read_until(reader, partition, start, end):
        if dict(message.headers).get("ce_id") in event_ids:
            return True
    return False
