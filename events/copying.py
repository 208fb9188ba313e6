"""Bootstrap: from nothing to a complete copy of the users without a gap, and then on with whatever happens.

The topic itself holds everybody: it keeps the last event of each living user for ever. So there is no export to import
first, and no gap between an export and the events after it. Who reads the topic from its beginning up to where it
ended when the reading began, and goes on from there, has a complete copy, and keeps it.

The Kafka client is the caller's: aiokafka's `AIOKafkaConsumer`, or anything with the same methods.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from .decoding import Decoded, decode

#: Records a batch at most: some ten milliseconds of decoding, and a transaction of a convenient size.
BATCH_RECORDS: Final = 2000
#: Milliseconds to wait for records at most; then progress and `as_of` are told without any.
PATIENCE_MS: Final = 500
#: How long the log keeps a tombstone at least, unless whoever runs Muster chose less (TOPIC_DELETE_RETENTION_MS).
TOMBSTONES_LAST: Final = timedelta(days=7)


class Record(Protocol):
    """What is read of a record; aiokafka's `ConsumerRecord`."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...


class Consumer(Protocol):
    """What is asked of the Kafka client; aiokafka's `AIOKafkaConsumer` has it all. `Any` is its TopicPartition."""

    def assignment(self) -> Collection[Any]: ...
    async def beginning_offsets(self, partitions: Any, /) -> Mapping[Any, int]: ...
    async def end_offsets(self, partitions: Any, /) -> Mapping[Any, int]: ...
    def seek(self, partition: Any, offset: int, /) -> None: ...
    async def position(self, partition: Any, /) -> int: ...
    async def getmany(self, *, timeout_ms: int, max_records: int) -> Mapping[Any, Sequence[Any]]: ...


class PositionGoneError(Exception):
    """The positions are not on the log, or it may have forgotten erasures since: begin anew, with an empty copy."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What was read, and how far the copy is once it is written."""

    #: Of one user in the order of versions; what was said of an `Unknown` is for you to decide.
    items: list[Decoded]
    #: The next position of each partition, by its number: write them in one transaction with the rows.
    positions: dict[int, int]
    #: How much of what was there at the start has been read, from 0 to 1.
    progress: float
    #: Whether all of it has been: from here on the copy is complete.
    caught_up: bool
    #: The copy has everything that was published until then, by this machine's clock; None before that is known.
    as_of: datetime | None
    #: How old the positions are: `as_of`, or when the reading from nothing began. Write it with them.
    positions_time: datetime | None


async def bootstrap(
    consumer: Consumer, positions: Mapping[int, int] | None = None, positions_time: datetime | None = None
) -> AsyncGenerator[Batch, None]:
    """Read every partition from its position, or from its beginning, and go on for ever; one batch after the other.

    The consumer is started, reads `read_committed`, is in no group, and has every partition of the topic, by `assign`.
    `positions` and `positions_time` are those of the last batch that was written; what was read but not written comes
    again. A partition without a position is read from its beginning. Who stays behind for TOMBSTONES_LAST may have
    missed tombstones, which the log forgets; that is noticed only where the time is given. Another topic is noticed
    only where a position is not on it.

    Raises:
        ValueError: no partition is assigned, or the assignment changed.
        PositionGoneError: a position is not on this log, or its time is too long ago.
    """
    partitions = set(consumer.assignment())
    if not partitions:
        raise ValueError("assign every partition of the topic to the consumer first")
    reading = _Reading(consumer, partitions, positions_time if positions else datetime.now(UTC))
    await reading.place(positions or {})
    while True:
        yield await reading.next()


class _Reading:
    """One run of `bootstrap`."""

    def __init__(self, consumer: Consumer, partitions: set[Any], time: datetime | None) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self._positions: dict[Any, int] = {}
        #: Where the backlog begins and ends.
        self._first: Mapping[Any, int] = {}
        self._last: Mapping[Any, int] = {}
        self._caught_up = False
        self._as_of: datetime | None = None
        self._time = time

    async def place(self, positions: Mapping[int, int]) -> None:
        self._first = await self._consumer.beginning_offsets(self._partitions)
        self._last = await self._consumer.end_offsets(self._partitions)
        for partition in self._partitions:
            first, last = self._first[partition], self._last[partition]
            position = positions.get(partition.partition, first)
            if not first <= position <= last:
                raise PositionGoneError(
                    f"partition {partition.partition} holds {first} to {last}, and the position is {position}: begin"
                    " anew, with an empty copy and no positions"
                )
            self._consumer.seek(partition, position)
            self._positions[partition] = position

    async def next(self) -> Batch:
        asked, ends = datetime.now(UTC), await self._ends()
        found = await self._consumer.getmany(timeout_ms=PATIENCE_MS, max_records=BATCH_RECORDS)
        if set(self._consumer.assignment()) != self._partitions:
            raise ValueError("the consumer's partitions changed: give it all of them with assign, and no group")
        items = [decode(record.key, record.headers, record.value) for records in found.values() for record in records]
        for partition in self._partitions:
            self._positions[partition] = await self._consumer.position(partition)
        self._caught_up = self._caught_up or self._passed(self._last)
        if ends is not None and self._passed(ends):
            self._as_of = self._time = asked
        self._require_tombstones()
        positions = {partition.partition: position for partition, position in self._positions.items()}
        return Batch(items, positions, self._progress(), self._caught_up, self._as_of, self._time)

    def _require_tombstones(self) -> None:
        """After reading: no tombstone can have been forgotten between the positions and now."""
        if self._time is not None and datetime.now(UTC) - self._time > TOMBSTONES_LAST:
            raise PositionGoneError(
                f"the positions are of {self._time.isoformat()}, and the log forgets erasures after"
                f" {TOMBSTONES_LAST.days} days: begin anew, with an empty copy and no positions"
            )

    async def _ends(self) -> Mapping[Any, int] | None:
        """Where the log ends now; only once the backlog is read, since it is a question to the broker."""
        return await self._consumer.end_offsets(self._partitions) if self._caught_up else None

    def _passed(self, ends: Mapping[Any, int]) -> bool:
        return all(self._positions[partition] >= end for partition, end in ends.items())

    def _progress(self) -> float:
        whole = sum(self._last.values()) - sum(self._first.values())
        read = sum(min(self._positions[each], self._last[each]) - self._first[each] for each in self._partitions)
        return read / whole if whole else 1.0
