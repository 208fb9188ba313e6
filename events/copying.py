"""Bootstrap: from nothing to a complete copy of the users without a gap, and then on with whatever happens.

The topic itself holds everybody: it keeps the last event of each living user for ever. So there is no export to import
first, and no gap between an export and the events after it. Who reads the topic from its beginning up to where it
ended when the reading began, and goes on from there, has a complete copy, and keeps it.

The Kafka client is the caller's: aiokafka's `AIOKafkaConsumer`, or anything with the same methods. It must not choose
another place by itself where a position is not on the log, which clients call `auto.offset.reset`: set it to `none`.
Whoever is put at the end of a topic that was made anew has skipped all that is on it. Nobody is told that by the
client, so the log is looked at beside the reading. A look is an answer of the broker that may wait behind a fetch, so
no batch waits for one: what is claimed (`caught_up`, `as_of`) is claimed after a look that came after the reading.

Brokers that were set back to older disks may have grown past the copy's positions: then other records are before them.
Those are younger than all that the copy has read. So a look asks, too, from where on there is something younger than
that. Where this is before a position, the log is read once more from there: it may be nothing but what nobody reads,
such as the marker of a transaction's end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import starmap
from typing import Any, Final, Protocol, overload

from .decoding import Decoded, Unknown, decode

#: Records a batch at most: their bytes and objects stay in a core's own cache until they are decoded. With 2,000 a
#: record takes 1.3 times the processor time.
BATCH_RECORDS: Final = 500
#: Milliseconds to wait for records at most; then progress and `as_of` are told without any.
PATIENCE_MS: Final = 500
#: The log keeps a tombstone at least this long, unless whoever runs Muster chose otherwise (TOPIC_DELETE_RETENTION_MS).
TOMBSTONES_LAST: Final = timedelta(days=7)
#: The pause between two looks at the log while more than a batch is there to read; otherwise before each batch.
LOOK_EVERY: Final = timedelta(seconds=1)
#: A transaction's marker comes within this after its records; a broker takes longer to start.
MARKERS_WITHIN: Final = timedelta(seconds=1)
#: This machine's clock may be behind the brokers' by so much.
CLOCKS_DIFFER: Final = timedelta(minutes=1)


class Record(Protocol):
    """The parts of a record that are read; aiokafka's `ConsumerRecord`."""

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...


class OffsetAndTimestamp(Protocol):
    """The place of a record, and when it was appended, in milliseconds; aiokafka's `OffsetAndTimestamp`."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int | None: ...


class Consumer(Protocol):
    """The Kafka client, as far as it is used; aiokafka's `AIOKafkaConsumer` has it all. `Any` is its TopicPartition."""

    def assignment(self) -> Collection[Any]: ...
    async def beginning_offsets(self, partitions: Any, /) -> Mapping[Any, int]: ...
    async def end_offsets(self, partitions: Any, /) -> Mapping[Any, int]: ...
    async def offsets_for_times(self, timestamps: Any, /) -> Mapping[Any, Any]: ...
    def seek(self, partition: Any, offset: int, /) -> None: ...
    async def position(self, partition: Any, /) -> int: ...
    async def getmany(self, *, timeout_ms: int, max_records: int) -> Mapping[Any, Sequence[Any]]: ...


class PositionGoneError(Exception):
    """The log is another, was cut, or may have forgotten erasures: begin anew, with an empty copy and no positions."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The records that were read, and how far the copy is once they are written."""

    #: Those of one user come in the order of versions. An `Unknown` says where it is, so that you can set it aside.
    #: Each is decoded when you take it, and anew when you take it again.
    items: Sequence[Decoded]
    #: The next position of each partition, by its number: write them in one transaction with the rows.
    positions: dict[int, int]
    #: The share of what was there at the start that has been read, from 0 to 1.
    progress: float
    #: True once all of it has been read: from here on the copy is complete.
    caught_up: bool
    #: The copy has everything that was published until then, by this machine's clock; None before that is known.
    as_of: datetime | None
    #: The age of the positions: `as_of`, or when the reading from nothing began. Write it with them.
    positions_time: datetime | None
    #: Nothing before the positions was appended after this, in milliseconds since 1970. Write it with them, too.
    newest: int | None


async def bootstrap(
    consumer: Consumer,
    positions: Mapping[int, int] | None = None,
    positions_time: datetime | None = None,
    newest: int | None = None,
    *,
    tombstones_last: timedelta = TOMBSTONES_LAST,
) -> AsyncGenerator[Batch, None]:
    """Read every partition from its position, or from its beginning, and go on for ever; one batch after the other.

    The consumer is started, reads `read_committed`, has `auto_offset_reset="none"`, is in no group, and has every
    partition of the topic, by `assign`. `positions`, `positions_time` and `newest` are those of the last batch that was
    written; what was read but not written comes again. A partition without a position is read from its beginning.

    Who stays behind for `tombstones_last` may have missed tombstones, which the log forgets. A topic that was made
    anew, or whose brokers were set back to older disks, has other records, or none, where the copy has read. While this
    runs, all of that is noticed. Of positions that were written before, the first is noticed only where their time is
    given, the others only where `newest` is, too, or where a position is not on the log.

    Raises:
        ValueError: no partition is assigned, or the assignment changed.
        PositionGoneError: a position is not on this log, or records before it were skipped, or the log is another, or
            the positions' time is too long ago.
    """
    partitions = set(consumer.assignment())
    if not partitions:
        raise ValueError("assign every partition of the topic to the consumer first")
    reading = _Reading(consumer, partitions, positions_time if positions else datetime.now(UTC), tombstones_last)
    reading.newest = newest if positions else None
    await reading.place(positions or {})
    while True:
        yield await reading.next()


class _Items(Sequence[Decoded]):
    """Records, decoded one by one: where each is forgotten before the next, that is a fifth less work."""

    def __init__(self, found: Mapping[Any, Sequence[Record]]) -> None:
        self._found = found

    def __len__(self) -> int:
        return sum(map(len, self._found.values()))

    def __iter__(self) -> Iterator[Decoded]:
        return starmap(_decoded, self._records())

    @overload
    def __getitem__(self, at: int) -> Decoded: ...
    @overload
    def __getitem__(self, at: slice) -> list[Decoded]: ...
    def __getitem__(self, at: int | slice) -> Decoded | list[Decoded]:
        taken = list(self._records())[at]
        return list(starmap(_decoded, taken)) if isinstance(taken, list) else _decoded(*taken)

    def _records(self) -> Iterator[tuple[Any, Record]]:
        for partition, records in self._found.items():
            for record in records:
                yield partition, record


def _decoded(partition: Any, record: Record) -> Decoded:
    item = decode(record.key, record.headers, record.value)
    if isinstance(item, Unknown):
        return item._replace(partition=partition.partition, offset=record.offset)
    return item


class _Reading:
    """One run of `bootstrap`."""

    def __init__(
        self, consumer: Consumer, partitions: set[Any], time: datetime | None, tombstones_last: timedelta
    ) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self._tombstones_last = tombstones_last
        self._positions: dict[Any, int] = {}
        #: The places where the backlog begins and ends.
        self._first: Mapping[Any, int] = {}
        self._last: Mapping[Any, int] = {}
        #: The first records, by which the log is known again.
        self._oldest: dict[Any, OffsetAndTimestamp] = {}
        #: When the log was looked at last, and what the positions were then.
        self._looked = datetime.now(UTC)
        self._looked_from: dict[Any, int] = {}
        self._caught_up = False
        #: True where the last batch was full: there is probably more.
        self._more = True
        #: When all that was there had been read; `as_of`, once a look after that has found the same log.
        self._had_all: datetime | None = None
        self._as_of: datetime | None = None
        self._time = time
        #: The brokers' time of the newest record that was read, or when a look found the same log, if that was later.
        self.newest: int | None = None
        #: Those that are read once more, up to their positions.
        self._doubtful: set[Any] = set()

    async def place(self, positions: Mapping[int, int]) -> None:
        self._first = await self._consumer.beginning_offsets(self._partitions)
        self._last = await self._consumer.end_offsets(self._partitions)
        for partition in self._partitions:
            self._positions[partition] = positions.get(partition.partition, self._first[partition])
        self._require_positions(self._first, self._last)
        self._know(await self._find_oldest())
        self._require_older_log()
        self._looked_from = dict(self._positions)
        for partition, position in self._positions.items():
            self._consumer.seek(partition, position)
        self._read_again(await self._find_younger())

    async def next(self) -> Batch:
        asked = datetime.now(UTC)
        is_due = not self._more or asked - self._looked > LOOK_EVERY
        ends = await self._look() if is_due and not self._doubtful else None
        found = await self._fetch()
        if set(self._consumer.assignment()) != self._partitions:
            raise ValueError("the consumer's partitions changed: give it all of them with assign, and no group")
        found = await self._advance(found)
        if self._caught_up:
            self._had_all = asked if ends is not None and self._passed(ends) else self._had_all
        elif self._passed(self._last):
            await self._look()
            self._caught_up = not self._doubtful
        self._more = not self._caught_up or sum(map(len, found.values())) >= BATCH_RECORDS
        self._require_tombstones()
        positions = {partition.partition: position for partition, position in self._positions.items()}
        return Batch(_Items(found), positions, self._progress(), self._caught_up, self._as_of, self._time, self.newest)

    async def _look(self) -> Mapping[Any, int]:
        """Require the log to be the one that was read until now; give where it ends."""
        had_all, self._looked = self._had_all, datetime.now(UTC)
        ends: Mapping[Any, int]
        starts, ends, oldest, younger = await asyncio.gather(
            self._consumer.beginning_offsets(self._partitions),
            self._consumer.end_offsets(self._partitions),
            self._find_oldest(),
            self._find_younger(),
        )
        self._know(oldest)
        for partition, position in self._looked_from.items():
            # A reader sent to the log's end stands behind what was deleted.
            if starts[partition] > position:
                raise _gone(partition, f"begins at {starts[partition]} now, and was read up to {position}")
        self._looked_from = dict(self._positions)
        self._read_again(younger)
        if not self._doubtful:
            self._found_same_log()
            if had_all is not None:
                self._as_of = self._time = had_all
        return ends

    async def _fetch(self) -> Mapping[Any, Sequence[Record]]:
        try:
            return await self._consumer.getmany(timeout_ms=PATIENCE_MS, max_records=BATCH_RECORDS)
        except Exception:
            # A position that is not on the log is an error of the client's own, whose name nobody knows here.
            starts = await self._consumer.beginning_offsets(self._partitions)
            self._require_positions(starts, await self._consumer.end_offsets(self._partitions))
            raise

    async def _advance(self, found: Mapping[Any, Sequence[Record]]) -> Mapping[Any, Sequence[Record]]:
        """Move to where the client is now, if it went there by reading on; give the records that are new."""
        new, doubtful = dict(found), len(self._doubtful)
        for partition, before in self._positions.items():
            moved = await self._consumer.position(partition)
            if partition in self._doubtful:
                new[partition] = self._past_doubt(partition, found.get(partition, ()))
                if moved < before:
                    continue
                self._doubtful.remove(partition)
            first = min([moved, *(record.offset for record in new.get(partition, ())[:1])])
            if first < before:
                raise _gone(partition, f"was read up to {before}, and the client has gone back to {first}")
            self._positions[partition] = moved
        if doubtful and not self._doubtful:
            self._found_same_log()
        newest = max((record.timestamp for records in new.values() for record in records), default=0)
        self.newest = max(newest, self.newest or 0) or None
        return new

    async def _find_younger(self) -> dict[Any, int]:
        """From where on, before a position, there is something younger than all that was read."""
        if self.newest is None:
            return {}
        moment = self.newest + 1 + MARKERS_WITHIN // timedelta(milliseconds=1)
        found = await self._consumer.offsets_for_times(dict.fromkeys(self._partitions, moment))
        return {
            partition: record.offset
            for partition, record in found.items()
            if record is not None and record.offset < self._positions[partition]
        }

    def _read_again(self, younger: Mapping[Any, int]) -> None:
        for partition, offset in younger.items():
            self._consumer.seek(partition, offset)
        self._doubtful |= younger.keys()

    def _past_doubt(self, partition: Any, records: Sequence[Record]) -> list[Record]:
        """The records behind the position; none before it may be younger than what was read there."""
        position, newest = self._positions[partition], self.newest or 0
        if any(record.offset < position and record.timestamp > newest for record in records):
            raise _gone(partition, f"has other records than were read up to {position}: its brokers were set back")
        return [record for record in records if record.offset >= position]

    def _found_same_log(self) -> None:
        self.newest = max(self.newest or 0, int(self._looked.timestamp() * 1000))

    async def _find_oldest(self) -> dict[Any, OffsetAndTimestamp]:
        found = await self._consumer.offsets_for_times(dict.fromkeys(self._partitions, 0))
        return {partition: record for partition, record in found.items() if record is not None}

    def _know(self, oldest: Mapping[Any, OffsetAndTimestamp]) -> None:
        """Compaction takes a log's first record, and a later one is the first; none before that one is younger."""
        for partition, record in oldest.items():
            known = self._oldest.get(partition)
            if known and record.offset <= known.offset and (record.timestamp or 0) > (known.timestamp or 0):
                raise _gone(partition, "has other records where it was read: the topic was made anew")
            self._oldest[partition] = record

    def _require_older_log(self) -> None:
        """Nothing is compacted that is younger than tombstones: so something is there yet of what had been read."""
        if self._time is None or all(position <= self._first[each] for each, position in self._positions.items()):
            return
        begun = min((record.timestamp or 0 for record in self._oldest.values()), default=None)
        if begun is not None and begun / 1000 > (self._time + CLOCKS_DIFFER).timestamp():
            raise PositionGoneError(
                f"everything on the topic is younger than the positions, which are of {self._time.isoformat()}: it was"
                f" made anew; {_BEGIN_ANEW}"
            )

    def _require_positions(self, starts: Mapping[Any, int], ends: Mapping[Any, int]) -> None:
        for partition, position in self._positions.items():
            first, last = starts[partition], ends[partition]
            if not first <= position <= last:
                raise _gone(partition, f"holds {first} to {last}, and the position is {position}")

    def _require_tombstones(self) -> None:
        """After reading: no tombstone can have been forgotten between the positions and now."""
        if self._time is not None and datetime.now(UTC) - self._time > self._tombstones_last:
            raise PositionGoneError(
                f"the positions are of {self._time.isoformat()}, and the log forgets erasures after"
                f" {self._tombstones_last / timedelta(days=1):g} days: {_BEGIN_ANEW}"
            )

    def _passed(self, ends: Mapping[Any, int]) -> bool:
        return all(self._positions[partition] >= end for partition, end in ends.items())

    def _progress(self) -> float:
        whole = sum(self._last.values()) - sum(self._first.values())
        read = sum(min(self._positions[each], self._last[each]) - self._first[each] for each in self._partitions)
        return read / whole if whole else 1.0


_BEGIN_ANEW: Final = "begin anew, with an empty copy and no positions"


def _gone(partition: Any, what: str) -> PositionGoneError:
    return PositionGoneError(f"partition {partition.partition} {what}: {_BEGIN_ANEW}")
