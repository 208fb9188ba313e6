"""The loop of a feed: place what was assigned, fetch, decode, hand over to be written; and again.

Everything about positions happens in this one loop, one step after the other. Only the writing of a batch goes on
beside it (projectors/consumer/writing.py), while the next batch is fetched and decoded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import IllegalStateError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from chassis.kafka.client import KAFKA_ERRORS
from chassis.kafka.leaders import leader_connections
from chassis.kafka.topic_ids import topic_id
from chassis.lifecycle import wait_for_event
from chassis.postgres.database import Database, describe
from projectors.consumer import checkpoints
from projectors.consumer.assignment import Assignment, KafkaRecords
from projectors.consumer.batches import DecodedBatch
from projectors.consumer.checkpoints import CheckpointMovedError, Move
from projectors.consumer.feed_settings import FeedSettings
from projectors.consumer.resumption import (
    CannotResumeError,
    LogBounds,
    log_ends,
    log_starts,
    refuse_another_log,
    refuse_another_topic,
    refuse_if_too_late,
    refuse_younger,
)
from projectors.consumer.subscription import Patience, fetch
from projectors.consumer.writing import DATABASE_ERRORS, FIRST_RETRY_SECONDS, ConsumerLostError, Writing
from projectors.decoding.records import DecodedEvent, Poison
from projectors.decoding.slices import SliceDecoder
from projectors.projections.projection import Projection
from read_model import generations
from read_model.generations import Generation

#: One wait for records. New ones end it at once; it only bounds how soon an assignment or an idle step is noticed.
POLL_MS: Final = 200
#: The same for a rebuild, which waits for the last step of each partition, over the marker of the last transaction.
BUILDING_POLL_MS: Final = 20
#: A poll that does not come back although it was bounded waits for an assignment that does not come.
POLL_DEADLINE_SECONDS: Final = 30.0
#: The broker answers at least twice a second; aiokafka was seen to hear nothing ever again after a broker's restart.
BROKER_SILENCE_SECONDS: Final = 30.0
#: A quiet partition's checkpoint notes this often that it is up to date, and Kafka's own tools are shown offsets.
TICK_SECONDS: Final = 1.0
#: aiokafka repeats a commit for as long as it is let, also of a consumer that is closed; this one is a courtesy.
SHOW_SECONDS: Final = 1.0
#: A loop looks this often whether the topic is the one that it reads, and what the database's clock says.
WATCH_SECONDS: Final = 5.0
#: A topic that a broker does not know is looked for again after this, and gone where it is missing still: a broker that
#: has just started may not know its topics yet.
MISSING_SECONDS: Final = 1.0
#: A broker that lives answers in milliseconds; nobody is read from while this is waited for.
WATCH_ANSWER_SECONDS: Final = 1.0
#: A reason for a final refusal is checked twice, 2 s apart: a broker that has just started may answer wrongly. Checks
#: further apart than the second number have nothing to do with one another.
DOUBT_SECONDS: Final = (2.0, 60.0)
#: A millisecond of decoding: the batch in flight has several answers to wait for, and each needs a turn of the event
#: loop.
SLICE_RECORDS: Final = 250


class FeedRefusedError(Exception):
    """The generation must not be fed any more."""


class Sight:
    """Whether the topic is gone, by two looks one after the other that both missed it."""

    def __init__(self) -> None:
        """Nobody has looked yet."""
        self.is_gone = False
        self._missed: float | None = None

    @property
    def patience(self) -> float:
        """How long to wait for the next look."""
        return WATCH_SECONDS if self._missed is None else MISSING_SECONDS

    def note(self, now: float, *, there: bool | None) -> None:
        """What a look has found at that time of the monotonic clock; None: nobody answered."""
        if there is None:
            self._missed = None
        elif there:
            self._missed, self.is_gone = None, False
        elif self._missed is None:
            self._missed = now
        elif now - self._missed >= MISSING_SECONDS:
            self.is_gone = True


class Loop:
    """The loop of one feed, through all of its consumers."""

    def __init__(  # noqa: PLR0913 - what a feed is made of
        self,
        settings: FeedSettings,
        database: Database,
        projection: Projection,
        generation: Generation,
        *,
        assignment: Assignment,
        writing: Writing,
        stopping: asyncio.Event,
        log: Any,
    ) -> None:
        """Bind; nothing is opened."""
        self.generation = generation
        self._sight = Sight()
        self._settings = settings
        self._database = database
        self._topic = projection.subject.topic(settings.topics)
        self._decoder = SliceDecoder(projection.subject)
        self._patience = Patience(projection.patience_ms)
        self._assignment = assignment
        self._writing = writing
        self._stopping = stopping
        self._log = log
        #: The topic that is read from; None before partitions are placed.
        self.topic_id: UUID | None = None
        #: When partitions were last placed, offsets shown, quiet partitions noted, the topic looked at, a position
        #: doubted; monotonic.
        self._placed = self._shown = self._noted = self._watched = 0.0
        self._doubted = -DOUBT_SECONDS[1]

    @property
    def topic_is_gone(self) -> bool:
        """Whether there is no such topic, as far as brokers said."""
        return self._sight.is_gone

    @property
    def _building(self) -> bool:
        return self.generation.status == "building"

    async def run(self, consumer: AIOKafkaConsumer) -> None:
        """Turn until cancelled.

        Raises:
            KafkaError, OSError, TimeoutError, ConsumerLostError: another consumer is needed.
            FeedRefusedError: none is, ever.
        """
        while True:
            if self.generation.refusal is not None:
                raise FeedRefusedError(self.generation.refusal)
            self._writing.pulse.beat()
            try:
                await self._turn(consumer)
            except DATABASE_ERRORS as error:
                await self._writing.retry_later(error)
            except CheckpointMovedError as error:
                self._assignment.lost(describe(error))
            except (NoOffsetForPartitionError, OffsetOutOfRangeError) as error:
                # Not placed yet, or not on the log any more: its bounds will tell.
                self._assignment.lost(describe(error))
                await wait_for_event(self._stopping, FIRST_RETRY_SECONDS)
            except CannotResumeError as error:
                await self._refuse(error)

    async def _turn(self, consumer: AIOKafkaConsumer) -> None:
        if time.monotonic() - self._watched > self._sight.patience:
            await self._watch(consumer)
        if self._assignment.unplaced and not await self._place(consumer):
            return
        async with asyncio.timeout(POLL_DEADLINE_SECONDS):
            wait_ms = BUILDING_POLL_MS if self._building else POLL_MS
            fetched = await fetch(consumer, wait_ms, self._settings.batch_records)
        self._writing.pulse.beat()
        if self._assignment.is_reached_anew(consumer):
            self._assignment.lost("its broker was reached anew")
            return
        records, moves = await self._assignment.take(consumer, fetched)
        self._patience.adapt(consumer, time.monotonic(), came=bool(fetched), replaying=self._building)
        if records:
            if time.monotonic() - self._noted > TICK_SECONDS:
                # Others may be quiet for as long as these are not.
                moves += await self._quiet_moves(consumer, {move.partition for move in moves})
            await self._hand_over(consumer, records, moves)
        else:
            await self._rest(consumer)

    async def _place(self, consumer: AIOKafkaConsumer) -> bool:
        """Read checkpoints, seek, resume.

        Returns:
            False when the assignment changed meanwhile, or the generation or the topic is gone.

        Raises:
            CannotResumeError: a checkpoint does not fit what is on the topic.
        """
        await self._writing.finished()
        epoch, partitions = self._assignment.epoch, sorted(self._assignment.unplaced)
        topic = self.topic_id = await topic_id(consumer, self._topic)
        self._sight.note(time.monotonic(), there=topic is not None)
        if topic is None:
            await wait_for_event(self._stopping, TICK_SECONDS)
            return False
        starts = await log_starts(consumer, partitions)
        connections = leader_connections(consumer, partitions)
        async with self._database.connection() as connection:
            await refuse_another_topic(connection, self.generation, self._topic)
            found = await checkpoints.read(connection, self.generation, self._topic, starts, topic)
        # Asked after the checkpoints were read: they lie before it.
        ends = await log_ends(consumer, partitions)
        if epoch != self._assignment.epoch:
            return False
        if len(found) < len(partitions):
            await wait_for_event(self._stopping, TICK_SECONDS)
            return False
        logs = {number: LogBounds(topic, starts[number], end) for number, end in ends.items()}
        refuse_another_log(found, logs)
        kept = timedelta(milliseconds=self._settings.topics.topic_delete_retention_ms)
        await refuse_if_too_late(consumer, self._topic, found, logs, kept)
        try:
            newest = await refuse_younger(consumer, self._topic, found)
        except IllegalStateError:
            if epoch == self._assignment.epoch:
                raise
            return False
        if epoch == self._assignment.epoch:
            for partition in partitions:
                consumer.seek(partition, max(found[partition.partition].read_from, starts[partition.partition]))
            self._assignment.placed(found, ends, newest, connections)
            consumer.resume(*partitions)
            if adopted := sorted(number for number, one in found.items() if one.newest is None):
                self._log.info("feed.log_adopted", partitions=adopted, why="a version before does not keep its time")
        self._placed = time.monotonic()
        self._writing.database_works()
        return epoch == self._assignment.epoch

    async def _watch(self, consumer: AIOKafkaConsumer) -> None:
        """Look whether the topic is still there, and still the one that is read; and at the database's clock."""
        async with self._database.connection() as connection:
            now = await connection.fetchval("SELECT clock_timestamp()")
        self._watched = time.monotonic()
        self._assignment.clock.note(now, self._watched)
        try:
            async with asyncio.timeout(WATCH_ANSWER_SECONDS):
                topic = await topic_id(consumer, self._topic)
        except KAFKA_ERRORS as error:
            # An outage, which others notice by themselves: nothing is known of the topic.
            self._log.debug("feed.topic_not_seen", error=describe(error))
            self._sight.note(self._watched, there=None)
            return
        self._sight.note(self._watched, there=topic is not None)
        if self._assignment and topic not in {None, self.topic_id}:
            self._assignment.lost("the topic of that name is another now")

    async def _refuse(self, error: CannotResumeError) -> None:
        """Store why the generation must not be fed any more, once it was seen twice."""
        now, (pause, relevant) = time.monotonic(), DOUBT_SECONDS
        if now - self._doubted > relevant:
            self._doubted = now
            self._assignment.lost(str(error))
            await wait_for_event(self._stopping, pause)
            return
        try:
            async with self._database.connection() as connection:
                await generations.refuse(connection, self.generation, str(error))
        except DATABASE_ERRORS as later:
            # Nothing is placed, so nothing is read before it is stored.
            self._assignment.lost(str(error))
            await self._writing.retry_later(later)
            return
        self._log.error("feed.refused", reason=str(error))
        self.generation = replace(self.generation, refusal=str(error))

    async def _hand_over(self, consumer: AIOKafkaConsumer, records: KafkaRecords, moves: list[Move]) -> None:
        """Decode these records and begin to write them, unless the partitions go to somebody else meanwhile."""
        epoch = self._assignment.epoch
        batch = DecodedBatch(await self._decode(records), moves)
        await self._writing.finished()
        if epoch != self._assignment.epoch:
            # They went to somebody else, or the batch before did not fit its checkpoints: these come again.
            return
        self._writing.begin(batch, notify=not self._building, then=lambda: self._show_offsets(consumer))

    async def _decode(self, records: KafkaRecords) -> list[DecodedEvent | Poison]:
        """Give way between slices, so that others can work."""
        items: list[DecodedEvent | Poison] = []
        for start in range(0, len(records), SLICE_RECORDS):
            if start:
                await asyncio.sleep(0)
            items += self._decoder.read(records[start : start + SLICE_RECORDS])
        return items

    async def _rest(self, consumer: AIOKafkaConsumer) -> None:
        """Nothing came: note, at most once a second, how far quiet partitions are up to date."""
        await self._writing.finished()
        if not self._assignment:
            return
        epoch = self._assignment.epoch
        moves = await self._quiet_moves(consumer)
        if time.monotonic() - max(self._assignment.last_heard(), self._placed) > BROKER_SILENCE_SECONDS:
            raise ConsumerLostError(f"the broker has not answered for {BROKER_SILENCE_SECONDS:g} s")
        if moves and epoch == self._assignment.epoch and await self._writing.write_now(DecodedBatch((), moves)):
            await self._show_offsets(consumer)

    async def _quiet_moves(self, consumer: AIOKafkaConsumer, but: Collection[int] = ()) -> list[Move]:
        self._noted = time.monotonic()
        moves = await self._assignment.quiet_moves(consumer, 0.0 if self._building else TICK_SECONDS)
        return [move for move in moves if move.partition not in but]

    async def _show_offsets(self, consumer: AIOKafkaConsumer) -> None:
        """Commit the positions to Kafka too, for its own tools; nothing of ours reads them."""
        now = time.monotonic()
        if now - self._shown < TICK_SECONDS or self._stopping.is_set():
            return
        self._shown = now
        try:
            async with asyncio.timeout(SHOW_SECONDS):
                await consumer.commit(self._assignment.positions())
        except (KafkaError, TimeoutError) as error:
            # A rebalance, in the middle of it: the checkpoint is what counts.
            self._log.debug("feed.offsets_not_shown", error=describe(error))
