"""Older records, read from the topic in chunks that all who read there share; and what the brokers say of the topic.

All of it is of one ring, that of who asks. Whenever a broker is reached over a new connection, its log is first held
against that ring.
"""

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

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError, OffsetOutOfRangeError

from chassis.kafka.append_times import first_since, newest_before
from chassis.kafka.leaders import Connections, leader_connections
from chassis.kafka.refusals import explain
from chassis.settings import Kafka
from event_api.log.consuming import (
    AWAY,
    LogAwayError,
    Wrap,
    identity,
    open_consumer,
    position_of,
)
from event_api.log.continuity import (
    Bounds,
    LogGoneError,
    bounds_of,
    examine,
    refuse_younger,
    require_same_log,
)
from event_api.log.positions import Offsets
from event_api.log.ring import Item, Ring

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


class _Opened:
    """The log of one ring, as it is read by one consumer."""

    def __init__(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition], ring: Ring) -> None:
        self.consumer, self.partitions, self.ring = consumer, partitions, ring
        self.connections: Connections = {}
        self.chunks = LogChunks()

    async def require_log(self) -> None:
        """Raise where what is there now is not the ring's log: the tail will notice, and end the ring."""
        partitions, ring = self.partitions, self.ring
        if await identity(self.consumer, partitions[0].topic) != ring.topic_id:
            raise ConnectionError(f"the topic {partitions[0].topic} is another now")
        # This connects us with the leaders.
        await bounds_of(self.consumer, partitions)
        self.connections = leader_connections(self.consumer, partitions)
        try:
            await require_same_log(self.consumer, partitions, ring.end, ring.newest)
        except LogGoneError as error:
            raise ConnectionError(f"the topic {partitions[0].topic} was set back: {error}") from error

    @property
    def is_connected(self) -> bool:
        """Whether the log is still reached over the connections over which it was held against the ring."""
        return leader_connections(self.consumer, self.connections) == self.connections


class LogBacklog:
    """Reads the topic anywhere, by one consumer that is made when it is needed."""

    def __init__(self, kafka: Kafka, topic: str, wrap: Wrap) -> None:
        """Nothing is opened."""
        self._kafka, self._topic, self._wrap = kafka, topic, wrap
        self._opened: _Opened | None = None
        self._opening = asyncio.Lock()
        #: One fetch at a time: who waits finds mostly that it has brought what they want.
        self._turn = asyncio.Lock()
        #: The fetches under way, by ring, partition and offset.
        self._fetches: dict[tuple[Ring, int, int], asyncio.Task[LogChunk]] = {}
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

    async def bounds(self, ring: Ring) -> Bounds:
        """The offsets at which the ring's topic begins and ends.

        Raises:
            LogAwayError: no answer, or the topic is another, or was set back.
        """
        async with self._asking(ring) as opened:
            return await bounds_of(opened.consumer, opened.partitions)

    async def newest_before(self, ring: Ring, offsets: Offsets) -> int:
        """A time, in milliseconds since 1970, that nothing before these was appended after; raises as `bounds`."""
        async with self._asking(ring) as opened:
            return await newest_before(opened.consumer, dict(zip(opened.partitions, offsets, strict=True)))

    async def first_since(self, ring: Ring, seconds: float) -> tuple[int | None, ...]:
        """The first record of each partition that was appended then or later; raises as `bounds`."""
        async with self._asking(ring) as opened:
            found = await first_since(opened.consumer, dict.fromkeys(opened.partitions, int(seconds * 1000)))
        return tuple(found.values())

    async def require_same_log(self, ring: Ring, offsets: Offsets, newest: int) -> Bounds:
        """The bounds of the log, which was read up to these offsets when nothing before them was younger.

        Raises:
            LogGoneError: it is another, or what comes next is gone; LogAwayError as `bounds`.
        """
        async with self._asking(ring) as opened:
            bounds, doubtful = await examine(opened.consumer, opened.partitions, offsets, newest)
        for number, first in doubtful.items():
            next_offset = first
            while next_offset < offsets[number]:
                chunk = await self.chunk(ring, number, next_offset, until=offsets[number])
                refuse_younger(chunk.items, offsets, newest)
                next_offset = chunk.next
        return bounds

    def chunk(self, ring: Ring, number: int, offset: int, until: int) -> asyncio.Task[LogChunk]:
        """Records of a partition from an offset on: some, or none where there are none before `until`.

        The task is everybody's who asks for the same: whoever cannot wait leaves it, and does not cancel it. It raises

            LogAwayError: no answer, or the topic is another, or was set back.
            LogGoneError: the topic begins later by now.
        """
        place = ring, number, offset
        if place not in self._fetches:
            self._fetches[place] = asyncio.ensure_future(self._chunk(ring, number, offset, until))
            self._fetches[place].add_done_callback(partial(self._fetched, place))
        return self._fetches[place]

    def _fetched(self, place: tuple[Ring, int, int], task: asyncio.Task[LogChunk]) -> None:
        del self._fetches[place]
        if not task.cancelled():
            # Taken note of here: those who asked may have left.
            task.exception()

    async def _chunk(self, ring: Ring, number: int, offset: int, until: int) -> LogChunk:
        if found := self._find(ring, number, offset):
            return found
        failures = self._failures
        async with self._turn:
            if found := self._find(ring, number, offset):
                return found
            if self._failures != failures:
                # Else everybody would wait for ANSWER_SECONDS, one after the other.
                raise LogAwayError("no answer to those who asked before")
            try:
                async with self._asking(ring) as opened:
                    chunk = await self._read(opened, number, offset, until)
                # Now it is sure that it is of the ring's log.
                opened.chunks.keep(number, chunk)
            except LogAwayError:
                self._failures += 1
                raise
            return chunk

    def _find(self, ring: Ring, number: int, offset: int) -> LogChunk | None:
        opened = self._opened
        if opened is None or opened.ring is not ring:
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
    async def _asking(self, ring: Ring) -> AsyncIterator[_Opened]:
        """The consumer that is open for this ring, for one question; whatever goes wrong, the next is asked anew."""
        opened = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                opened = await self._open(ring)
                yield opened
            if not opened.is_connected:
                raise ConnectionError("a connection was lost meanwhile")
        except OffsetOutOfRangeError as error:
            raise LogGoneError("the topic begins later by now") from error
        except (*AWAY, ConsumerStoppedError) as error:
            await self._close(opened)
            raise LogAwayError(explain(error)) from error

    async def _open(self, ring: Ring) -> _Opened:
        async with self._opening:
            if self._opened is not None and self._opened.ring is ring and self._opened.is_connected:
                return self._opened
            await self._stack.aclose()
            self._opened = None
            consumer, partitions = await self._stack.enter_async_context(
                open_consumer(self._kafka, self._topic, wait_ms=FETCH_MS)
            )
            opened = _Opened(consumer, partitions, ring)
            await opened.require_log()
            self._opened = opened
            return opened

    async def _close(self, failed: _Opened | None) -> None:
        async with self._opening:
            if failed is self._opened:
                self._opened = None
                await self._stack.aclose()
