"""Older records, read from the topic in chunks that all who read there share; and where the topic begins and ends."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, Self
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError, OffsetOutOfRangeError

from chassis.kafka.refusals import explain
from chassis.settings import Kafka
from event_api.log.consuming import (
    AWAY,
    LogAwayError,
    LogGoneError,
    Wrap,
    ends_of,
    identity,
    open_consumer,
    position_of,
    starts_of,
)
from event_api.log.positions import Offsets
from event_api.log.ring import Item

#: So much of what was read is kept, for others who come by.
KEPT_BYTES: Final = 16 * 1024 * 1024
#: Kept longer, an erased person would come back from here whose tombstone has left the topic meanwhile.
KEPT_SECONDS: Final = 30.0
#: A broker that lives answers in milliseconds. Less than a page is searched for, so that it is refused and not empty.
ANSWER_SECONDS: Final = 4.0
#: Records that are there come at once.
FETCH_MS: Final = 100


@dataclass(frozen=True, slots=True)
class LogChunk:
    """The records that one fetch has given of one partition: everything from one offset on and before another."""

    first: int
    next: int
    items: list[Item]
    #: When the fetch began, by the monotonic clock.
    read_at: float

    def after(self, offset: int) -> list[Item]:
        """The records from an offset on."""
        return self.items[bisect_left(self.items, offset, key=lambda item: item.offset) :]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(item.size for item in self.items)


class LogChunks:
    """The chunks that were used last, by partition and offset; none is older than KEPT_SECONDS."""

    def __init__(self) -> None:
        self._by_place: OrderedDict[tuple[int, int], LogChunk] = OrderedDict()
        self._firsts: dict[int, list[int]] = {}
        self._bytes = 0

    def find(self, number: int, offset: int, now: float) -> LogChunk | None:
        """A chunk that has this offset in it."""
        firsts = self._firsts.get(number, [])
        at = bisect_right(firsts, offset) - 1
        if at < 0:
            return None
        chunk = self._by_place[number, firsts[at]]
        if chunk.next <= offset or not _is_young(chunk, now):
            return None
        self._by_place.move_to_end((number, chunk.first))
        return chunk

    def keep(self, number: int, chunk: LogChunk) -> None:
        """Keep it; forget what is old by now, and what was not used for longest."""
        self._forget(number, chunk.first)
        for place in [place for place, each in self._by_place.items() if not _is_young(each, chunk.read_at)]:
            self._forget(*place)
        self._by_place[number, chunk.first] = chunk
        insort(self._firsts.setdefault(number, []), chunk.first)
        self._bytes += chunk.size
        while self._bytes > KEPT_BYTES and len(self._by_place) > 1:
            self._forget(*next(iter(self._by_place)))

    def _forget(self, number: int, first: int) -> None:
        if chunk := self._by_place.pop((number, first), None):
            self._firsts[number].remove(first)
            self._bytes -= chunk.size


def _is_young(chunk: LogChunk, now: float) -> bool:
    return now - chunk.read_at <= KEPT_SECONDS


@dataclass(frozen=True, slots=True)
class Bounds:
    """The offsets at which each partition of the topic begins and ends."""

    starts: Offsets
    ends: Offsets


class _Opened:
    """One topic, as it is read by one consumer."""

    def __init__(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition], topic_id: UUID) -> None:
        self.consumer, self.partitions, self.topic_id = consumer, partitions, topic_id
        self.chunks = LogChunks()


class LogBacklog:
    """Reads the topic anywhere, by one consumer that is made when it is needed."""

    def __init__(self, kafka: Kafka, topic: str, wrap: Wrap) -> None:
        """Nothing is opened."""
        self._kafka, self._topic, self._wrap = kafka, topic, wrap
        self._opened: _Opened | None = None
        self._opening = asyncio.Lock()
        #: One fetch at a time: who waits finds mostly that it has brought what they want.
        self._turn = asyncio.Lock()
        #: The fetches under way, by topic, partition and offset.
        self._fetches: dict[tuple[UUID, int, int], asyncio.Task[LogChunk]] = {}
        self._failures = 0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Open nothing yet."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close what is open."""
        for task in (fetches := list(self._fetches.values())):
            task.cancel()
        await asyncio.gather(*fetches, return_exceptions=True)
        await self._stack.aclose()

    async def bounds(self, topic_id: UUID) -> Bounds:
        """The offsets at which this topic begins and ends.

        Raises:
            LogAwayError: no answer, or the topic is another.
        """
        async with self._asking(topic_id) as opened:
            starts = await starts_of(opened.consumer, opened.partitions)
            return Bounds(starts, await ends_of(opened.consumer, opened.partitions))

    async def first_since(self, topic_id: UUID, seconds: float) -> tuple[int | None, ...]:
        """The first record of each partition that was appended then or later; raises as `bounds`."""
        async with self._asking(topic_id) as opened:
            wanted = dict.fromkeys(opened.partitions, int(seconds * 1000))
            found = await opened.consumer.offsets_for_times(wanted)
            return tuple(found[each].offset if found[each] else None for each in opened.partitions)

    def chunk(self, topic_id: UUID, number: int, offset: int, until: int) -> asyncio.Task[LogChunk]:
        """Records of a partition from an offset on: some, or none where there are none before `until`.

        The task is everybody's who asks for the same: whoever cannot wait leaves it, and does not cancel it. It raises

            LogAwayError: no answer, or the topic is another.
            LogGoneError: the topic begins later by now.
        """
        place = topic_id, number, offset
        if place not in self._fetches:
            self._fetches[place] = asyncio.ensure_future(self._chunk(topic_id, number, offset, until))
            self._fetches[place].add_done_callback(partial(self._fetched, place))
        return self._fetches[place]

    def _fetched(self, place: tuple[UUID, int, int], task: asyncio.Task[LogChunk]) -> None:
        del self._fetches[place]
        if not task.cancelled():
            # Taken note of here: those who asked may have left.
            task.exception()

    async def _chunk(self, topic_id: UUID, number: int, offset: int, until: int) -> LogChunk:
        if found := self._find(topic_id, number, offset):
            return found
        failures = self._failures
        async with self._turn:
            if found := self._find(topic_id, number, offset):
                return found
            if self._failures != failures:
                # Else everybody would wait for ANSWER_SECONDS, one after the other.
                raise LogAwayError("no answer to those who asked before")
            try:
                async with self._asking(topic_id) as opened:
                    chunk = await self._read(opened, number, offset, until)
                    opened.chunks.keep(number, chunk)
                    return chunk
            except LogAwayError:
                self._failures += 1
                raise

    def _find(self, topic_id: UUID, number: int, offset: int) -> LogChunk | None:
        opened = self._opened
        if opened is None or opened.topic_id != topic_id:
            return None
        return opened.chunks.find(number, offset, time.monotonic())

    async def _read(self, opened: _Opened, number: int, offset: int, until: int) -> LogChunk:
        consumer, partition, begun = opened.consumer, opened.partitions[number], time.monotonic()
        consumer.seek(partition, offset)
        consumer.resume(partition)
        try:
            while True:
                fetched = await consumer.getmany(partition, timeout_ms=FETCH_MS)
                # This comes before anything is awaited: else the next part would be fetched, which others may not want.
                consumer.pause(partition)
                records, end = fetched.get(partition, []), position_of(consumer, partition)
                if records or end >= until:
                    return LogChunk(offset, end, [self._wrap(record) for record in records], begun)
                consumer.resume(partition)
        finally:
            consumer.pause(partition)

    @asynccontextmanager
    async def _asking(self, topic_id: UUID) -> AsyncIterator[_Opened]:
        """The consumer that is open for this topic, for one question; whatever goes wrong, the next is asked anew."""
        opened = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                opened = await self._open(topic_id)
                yield opened
        except OffsetOutOfRangeError as error:
            raise LogGoneError("the topic begins later by now") from error
        except (*AWAY, ConsumerStoppedError) as error:
            await self._close(opened)
            raise LogAwayError(explain(error)) from error

    async def _open(self, topic_id: UUID) -> _Opened:
        async with self._opening:
            if self._opened is not None and self._opened.topic_id == topic_id:
                return self._opened
            await self._stack.aclose()
            self._opened = None
            consumer, partitions = await self._stack.enter_async_context(
                open_consumer(self._kafka, self._topic, wait_ms=FETCH_MS)
            )
            found = await identity(consumer, self._topic)
            if found != topic_id:
                raise ConnectionError(f"the topic {self._topic} is another now")
            self._opened = _Opened(consumer, partitions, found)
            return self._opened

    async def _close(self, failed: _Opened | None) -> None:
        async with self._opening:
            if failed is self._opened:
                self._opened = None
                await self._stack.aclose()
