"""The loop of a feed: place what was assigned, fetch, decode, hand over to be written; and again.

Everything about positions happens in this one loop, one step after the other. Only the writing of a batch goes on
beside it (projectors/consumer/writing.py), while the next batch is fetched and decoded.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError

from chassis.lifecycle import wait_for_event
from chassis.postgres.database import Database, describe
from projectors.consumer import checkpoints
from projectors.consumer.assignment import Assignment, KafkaRecords
from projectors.consumer.batches import DecodedBatch
from projectors.consumer.checkpoints import CheckpointMovedError, Move
from projectors.consumer.feed_settings import FeedSettings
from projectors.consumer.resumption import TooLateError, refuse_if_too_late, topic_limits
from projectors.consumer.subscription import Patience, fetch
from projectors.consumer.writing import DATABASE_ERRORS, RETRY_CAP_SECONDS, ConsumerLostError, Writing
from projectors.decoding.records import DecodedEvent, Poison
from projectors.decoding.slices import SliceDecoder
from projectors.projections.projection import Projection
from read_model.generations import Generation

#: One wait for records. New ones end it at once; it only bounds how soon an assignment or an idle step is noticed.
POLL_MS: Final = 200
#: The same for a rebuild, which waits for the last step of each partition, over the marker of the last transaction.
BUILDING_POLL_MS: Final = 20
#: A poll that does not come back although it was bounded waits for an assignment that does not come.
POLL_DEADLINE_SECONDS: Final = 30.0
#: The broker answers at least twice a second; aiokafka was seen to hear nothing ever again after a broker's restart.
BROKER_SILENCE_SECONDS: Final = 30.0
#: How often a quiet partition's checkpoint notes that it is up to date, and offsets are shown to Kafka's own tools.
TICK_SECONDS: Final = 1.0
#: aiokafka repeats a commit for as long as it is let, also of a consumer that is closed; this one is a courtesy.
SHOW_SECONDS: Final = 1.0
#: A millisecond of decoding: the batch in flight has several answers to wait for, and each needs a turn of the event
#: loop.
SLICE_RECORDS: Final = 250


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
        #: Why this generation is not fed until an operator has decided.
        self.refusal: str | None = None
        self._settings = settings
        self._database = database
        self._topic = projection.subject.topic(settings.topics)
        self._decoder = SliceDecoder(projection.subject)
        self._patience = Patience(projection.patience_ms)
        self._assignment = assignment
        self._writing = writing
        self._stopping = stopping
        self._log = log
        #: When partitions were last placed, and offsets last shown; by the wall clock and by the monotonic one.
        self._placed = 0.0
        self._shown = 0.0

    @property
    def _building(self) -> bool:
        return self.generation.status == "building"

    async def run(self, consumer: AIOKafkaConsumer) -> None:
        """Turn until cancelled.

        Raises:
            KafkaError, OSError, TimeoutError, ConsumerLostError: another consumer is needed.
        """
        while True:
            self._writing.pulse.beat()
            try:
                await self._turn(consumer)
            except DATABASE_ERRORS as error:
                await self._writing.retry_later(error)
            except CheckpointMovedError as error:
                self._assignment.lost(describe(error))
            except TooLateError as error:
                await self._refuse(error)

    async def _turn(self, consumer: AIOKafkaConsumer) -> None:
        if self._assignment.unplaced and not await self._place(consumer):
            return
        async with asyncio.timeout(POLL_DEADLINE_SECONDS):
            wait_ms = BUILDING_POLL_MS if self._building else POLL_MS
            fetched = await fetch(consumer, wait_ms, self._settings.batch_records)
        self._writing.pulse.beat()
        records, moves = await self._assignment.take(consumer, fetched)
        self._patience.adapt(consumer, time.monotonic(), came=bool(fetched), replaying=self._building)
        if records:
            await self._hand_over(consumer, records, moves)
        else:
            await self._rest(consumer)

    async def _place(self, consumer: AIOKafkaConsumer) -> bool:
        """Read checkpoints, seek, resume; False when the assignment changed meanwhile or the generation is gone."""
        await self._writing.finished()
        epoch, partitions = self._assignment.epoch, sorted(self._assignment.unplaced)
        async with self._database.connection() as connection:
            numbers = [partition.partition for partition in partitions]
            found = await checkpoints.read(connection, self.generation, self._topic, numbers)
        limits = await topic_limits(consumer, partitions, self._settings.topics.topic_delete_retention_ms)
        if epoch != self._assignment.epoch:
            return False
        if len(found) < len(partitions):
            await wait_for_event(self._stopping, TICK_SECONDS)
            return False
        refuse_if_too_late(self.generation, found, limits)
        for partition in partitions:
            consumer.seek(partition, found[partition.partition].position)
        self._assignment.placed(found, limits.ends)
        consumer.resume(*partitions)
        self.refusal = None
        self._placed = time.time()
        self._writing.database_works()
        return True

    async def _refuse(self, error: TooLateError) -> None:
        """Stay out of it, and say why, until an operator has decided."""
        if self.refusal is None:
            self._log.error("feed.refused", reason=str(error))
        self.refusal = str(error)
        await wait_for_event(self._stopping, RETRY_CAP_SECONDS)

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
        if time.time() - max(self._assignment.last_answer(consumer), self._placed) > BROKER_SILENCE_SECONDS:
            raise ConsumerLostError(f"the broker has not answered for {BROKER_SILENCE_SECONDS:g} s")
        epoch = self._assignment.epoch
        moves = await self._assignment.quiet_moves(consumer, 0.0 if self._building else TICK_SECONDS)
        if moves and epoch == self._assignment.epoch and await self._writing.write_now(DecodedBatch((), moves)):
            await self._show_offsets(consumer)

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
