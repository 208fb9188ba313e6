"""Assignment: the partitions that a feed has been assigned, and where it is in each.

Assignments come from the consumer's own task at any time, and are only noted here. A partition has a place once the
loop has read its checkpoint and sought there. Records that arrive before that are dropped, and fetched again after it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from chassis.kafka.leaders import Connections, is_reached_anew
from projectors.consumer import metrics
from projectors.consumer.checkpoints import Checkpoint, LastRecord, Move
from projectors.consumer.freshness import Freshness, ServerClock
from projectors.consumer.resumption import refuse_another_record
from projectors.consumer.subscription import Fetched

KafkaRecords = list[ConsumerRecord[bytes, bytes]]


@dataclass(slots=True)
class AssignedPartition:
    """The place of a feed in one partition."""

    #: The checkpoint in the database, and where it will be once the batch in flight is committed.
    position: int
    expected: int
    #: The newest `seen_until` that is in the database, and when, by the monotonic clock, it was written.
    seen_until: datetime | None
    #: When the newest record before `expected`, and before what is decoded behind it, was appended, in milliseconds.
    newest: int
    written: float = 0.0
    #: The last record before the position, until it has been compared with what is there now.
    last: LastRecord | None = None
    #: The readable end, once the broker has said where that is.
    end: int | None = None
    freshness: Freshness = field(default_factory=Freshness)

    @property
    def lag(self) -> int | None:
        """Positions to the readable end; None while that is not known."""
        return None if self.end is None else max(self.end - self.position, 0)

    def step(self, number: int, position: int, clock: ServerClock, last: ConsumerRecord[bytes, bytes] | None) -> Move:
        """A step to `position`; `last` is the last record before it, where one was read."""
        seen_until = self.freshness.seen_until(clock, position)
        return Move(number, self.expected, position, seen_until, last and LastRecord.of(last), self.newest)


class Assignment:
    """The assigned partitions of one feed."""

    def __init__(self, topic: str, labels: tuple[str, str], log: Any) -> None:
        """No partition is assigned yet; `labels` and `log` are the feed's."""
        #: Grows with each change of what is assigned or placed: whoever began in another epoch leaves it be.
        self.epoch = 0
        #: True once the group has given this member its partitions, of which there may be none.
        self.joined = False
        #: Since when it has not, by the monotonic clock.
        self.apart_since = time.monotonic()
        self.unplaced: set[TopicPartition] = set()
        #: The database server's, as it was when somebody last looked.
        self.clock = ServerClock()
        self._topic = topic
        self._labels = labels
        self._log = log
        self._assigned: dict[int, AssignedPartition] = {}
        #: Over which each was placed.
        self._connections: Connections = {}

    def __len__(self) -> int:
        """The number of partitions that are fed now."""
        return len(self._assigned)

    def behind(self, limit: int) -> list[int]:
        """The partitions that are, or may be, more than `limit` positions behind."""
        return sorted(number for number, place in self._assigned.items() if place.lag is None or place.lag > limit)

    def positions(self) -> dict[TopicPartition, int]:
        """The checkpoints, as Kafka is shown them."""
        return {self._partition(number): place.position for number, place in self._assigned.items()}

    # -- What changes them -------------------------------------------------------------------------------------------

    def revoked(self) -> None:
        """Forget every place; a batch in flight may still commit, its checkpoints decide."""
        self.epoch += 1
        if self.joined:
            self.apart_since = time.monotonic()
        self.joined = False
        self.unplaced = set()
        self._clear()

    def assigned(self, partitions: set[TopicPartition]) -> None:
        """Note what the loop has to place."""
        self.epoch += 1
        self.joined = True
        self.unplaced = set(partitions)
        self._log.info("feed.assigned", partitions=sorted(partition.partition for partition in partitions))

    def lost(self, reason: str) -> None:
        """Place everything anew: a checkpoint was moved, the log may be another, or its broker was reached anew."""
        self._log.info("feed.placed_anew", reason=reason)
        self.epoch += 1
        self.unplaced |= {self._partition(number) for number in self._assigned}
        self._clear()

    def placed(
        self,
        found: Mapping[int, Checkpoint],
        ends: Mapping[int, int],
        newest: Mapping[int, int],
        connections: Connections,
    ) -> None:
        """These partitions are read from their checkpoints on, over the connections by which their ends were asked.

        `newest` is when the newest record before each of them was appended.
        """
        self._connections = {**self._connections, **connections}
        for number, checkpoint in found.items():
            position, seen_until = checkpoint.position, checkpoint.seen_until
            self._assigned[number] = AssignedPartition(
                position, position, seen_until, newest[number], last=checkpoint.last, end=ends[number]
            )
            self.unplaced.discard(self._partition(number))

    def expect(self, moves: Sequence[Move]) -> None:
        """The writing of these steps begins."""
        for move in moves:
            self._assigned[move.partition].expected = move.position

    def moved(self, moves: Sequence[Move]) -> None:
        """These steps are in the database."""
        now = time.monotonic()
        for move in moves:
            place = self._assigned[move.partition]
            place.position, place.written = move.position, now
            place.expected = max(place.expected, move.position)
            place.seen_until = max(filter(None, (place.seen_until, move.seen_until)), default=None)

    def is_reached_anew(self, consumer: AIOKafkaConsumer) -> bool:
        """Whether a leader is reached over another connection than when its partitions were placed."""
        placed = map(self._partition, self._assigned)
        return is_reached_anew(consumer, {partition: self._connections[partition] for partition in placed})

    # -- What the consumer says --------------------------------------------------------------------------------------

    async def take(self, consumer: AIOKafkaConsumer, fetched: Fetched) -> tuple[KafkaRecords, list[Move]]:
        """The records that are next, and the steps that they are.

        Raises:
            CannotResumeError: the record before them is not the one that was read.
        """
        records: KafkaRecords = []
        moves = []
        for partition, found in fetched.items():
            place = self._assigned.get(partition.partition)
            if place is None:
                continue
            if place.last is not None and found[0].offset >= place.last.offset:
                refuse_another_record(place.last, found[0])
                place.last = None
                if found[-1].offset + 1 < place.expected:
                    # Records without an id, which nothing can be compared with, however many: they were read already.
                    consumer.seek(partition, place.expected)
            # The record that was compared, or an older answer, right after a seek; offsets grow.
            new = found if found[0].offset >= place.expected else [one for one in found if one.offset >= place.expected]
            if not new:
                continue
            position = await consumer.position(partition)
            self._observe(consumer, partition.partition, place)
            place.newest = max(place.newest, *(one.timestamp for one in new))
            moves.append(place.step(partition.partition, position, self.clock, new[-1]))
            records += new
        return records, moves

    async def quiet_moves(self, consumer: AIOKafkaConsumer, seconds: float) -> list[Move]:
        """Steps without records, of partitions whose checkpoints have not moved for so long: how fresh they are.

        They also pass what a consumer never sees, such as the marker of a transaction's end. A partition of which a
        batch is in flight is not quiet.
        """
        now = time.monotonic()
        moves = []
        for number, place in self._assigned.items():
            if place.expected != place.position:
                continue
            self._observe(consumer, number, place)
            # The consumer is behind the place while the record before it has not come, to be compared.
            position = max(await consumer.position(self._partition(number)), place.position)
            move = place.step(number, position, self.clock, None)
            fresher = move.seen_until is not None and (place.seen_until is None or move.seen_until > place.seen_until)
            if now - place.written >= seconds and (fresher or move.position > place.position):
                moves.append(move)
        return moves

    def last_heard(self) -> float:
        """When an answer of the broker for any of them was last noticed, by the monotonic clock; 0 where none was."""
        return max((place.freshness.heard or 0.0 for place in self._assigned.values()), default=0.0)

    def _observe(self, consumer: AIOKafkaConsumer, number: int, place: AssignedPartition) -> None:
        partition = self._partition(number)
        place.end = consumer.last_stable_offset(partition) or place.end
        place.freshness.observe(consumer.last_poll_timestamp(partition), place.end, time.monotonic())
        metrics.LAG_RECORDS.labels(*self._labels, str(number)).set(place.lag or 0)

    def show_ages(self) -> None:
        """Have the metrics say how old what is readable is."""
        now = self.clock.at(time.monotonic())
        for number, place in self._assigned.items():
            if now is not None and place.seen_until is not None:
                age = (now - place.seen_until).total_seconds()
                metrics.LAG_SECONDS.labels(*self._labels, str(number)).set(max(age, 0.0))

    def _clear(self) -> None:
        for number in self._assigned:
            for gauge in (metrics.LAG_RECORDS, metrics.LAG_SECONDS):
                gauge.remove(*self._labels, str(number))
        self._assigned = {}

    def _partition(self, number: int) -> TopicPartition:
        return TopicPartition(self._topic, number)
