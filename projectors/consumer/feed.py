"""A feed: one generation of one projection, fed from the topic by this process, through any outage.

Everything about positions happens in one loop, never at once: place the partitions that were assigned (read
checkpoints, seek, resume), poll, apply, poll again. Assignments come from the consumer's own task at any time; they
only leave a note for the loop. Records of a partition that has not been placed are dropped: the seek brings them again.
Only the writing of a batch goes on beside the loop, one batch at a time, while the next is polled and decoded; its
checkpoints' compare-and-set keeps batches in order, also when one fails.

A consumer that fails, or hears nothing from the broker for SILENCE_SECONDS, is discarded and made anew. Each turn of
the loop leaves a mark of the time; a loop that leaves none is stuck beyond repair, and the process ends
(projectors/app.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import asyncpg
import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from faststream.kafka import KafkaBroker

from chassis.clock import utc_now
from chassis.kafka.client import KAFKA_ERRORS
from chassis.lifecycle import Backoff, wait_for_event
from chassis.postgres.database import Database, DatabaseUnavailableError, describe
from projectors import metrics
from projectors.consumer import checkpoints
from projectors.consumer.batches import Batch, BatchWriter
from projectors.consumer.checkpoints import CheckpointMovedError, Move
from projectors.consumer.freshness import Freshness
from projectors.consumer.resumption import TooLateError, refuse_if_too_late, topic_limits
from projectors.consumer.subscription import Fetched, Records, fetch, make_broker, set_patience, stop_broker
from projectors.projections.projection import Projection
from projectors.settings import ProjectorSettings
from read_model.generations import Generation

log = structlog.get_logger("projectors.feed")

#: One wait for records. New ones end it at once; it only bounds how soon an assignment or an idle step is noticed.
POLL_MS: Final = 200
#: The same for a rebuild, which waits for the last step of each partition, over the marker of the last transaction.
BUILDING_POLL_MS: Final = 20
#: A poll that does not come back although it was bounded waits for an assignment that does not come.
POLL_DEADLINE_SECONDS: Final = 30.0
#: The broker answers at least twice a second; aiokafka was seen to hear nothing ever again after a broker's restart.
SILENCE_SECONDS: Final = 30.0
#: A consumer starts in a fraction of this, or its broker is away.
START_SECONDS: Final = 20.0
#: How often a quiet partition's checkpoint notes that it is up to date, and offsets are shown to Kafka's own tools.
TICK_SECONDS: Final = 1.0
#: aiokafka repeats a commit for as long as it is let, also of a consumer that is closed; this one is a courtesy.
SHOW_SECONDS: Final = 1.0
#: Retries of whatever failed: quick at first, and never further apart than this, so that an outage's end is noticed.
FIRST_RETRY_SECONDS: Final = 0.05
RETRY_CAP_SECONDS: Final = 5.0

DATABASE_ERRORS: Final = (DatabaseUnavailableError, asyncpg.PostgresError)


@dataclass(slots=True)
class _Place:
    """Where a partition is that has been placed."""

    #: The checkpoint in the database, and where it will be once the batch in flight is committed.
    position: int
    expected: int
    #: The newest `seen_until` that is in the database, and when, by the monotonic clock, it was written.
    seen_until: datetime | None
    written: float = 0.0
    end: int | None = None
    freshness: Freshness = field(default_factory=Freshness)

    @property
    def lag(self) -> int | None:
        """Positions to the readable end; None until the broker has said where that is."""
        return None if self.end is None else max(self.end - self.position, 0)


class Feed:
    """Feeds one generation; `run` until told to stop."""

    def __init__(
        self, settings: ProjectorSettings, database: Database, projection: Projection, generation: Generation
    ) -> None:
        """Bind; nothing is opened."""
        self.generation = generation
        self.group = group_of(settings, generation)
        self.refusal: str | None = None
        self._settings = settings
        self._database = database
        self._topic = settings.events_topic
        self._writer = BatchWriter(database, projection, generation, self._topic)
        self._log = log.bind(projection=generation.projection, generation=generation.number)
        self._labels = (generation.projection, str(generation.number))
        #: In seconds; and when the newest records came, by the monotonic clock.
        self._patience = projection.patience_ms / 1000
        self._came = 0.0
        self._backoff = Backoff(first=FIRST_RETRY_SECONDS, cap=RETRY_CAP_SECONDS)
        #: Whether the log's last word is that the database does not answer.
        self._unavailable = False
        self._stopping = asyncio.Event()
        self._broken = asyncio.Event()
        self._joined = False
        self._epoch = 0
        self._unplaced: set[TopicPartition] = set()
        self._places: dict[int, _Place] = {}
        self._moves: list[Move] = []
        self._writing: asyncio.Task[None] | None = None
        self._placed = 0.0
        self._shown = 0.0
        self._turned = time.monotonic()
        self._ready = False

    # -- What others ask ---------------------------------------------------------------------------------------------

    @property
    def idle_seconds(self) -> float:
        """Since the loop last turned; it turns several times a second, through outages too."""
        return time.monotonic() - self._turned

    @property
    def places(self) -> Mapping[int, _Place]:
        """The partitions this process feeds now."""
        return self._places

    @property
    def _building(self) -> bool:
        return self.generation.status == "building"

    def why_not_ready(self) -> str | None:
        """None once this member has its partitions, or is a spare, and is not far behind; later lag is no reason."""
        if self.refusal is not None:
            return self.refusal
        if not self._joined:
            return "has no assignment yet"
        if self._unplaced:
            return "has not read its checkpoints yet"
        limit = self._settings.projectors_ready_lag_records
        behind = [f"{number}" for number, place in self._places.items() if place.lag is None or place.lag > limit]
        if behind and not self._ready:
            return f"is more than {limit} records behind in partitions {', '.join(sorted(behind, key=int))}"
        self._ready = True
        return None

    def stop(self) -> None:
        """Ask `run` to finish what it began and return."""
        self._stopping.set()

    # -- The life of consumers ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Feed until `stop`; a consumer that fails is replaced, with growing delays."""
        backoff = Backoff(first=FIRST_RETRY_SECONDS, cap=RETRY_CAP_SECONDS)
        while not self._stopping.is_set():
            self._turn()
            self._broken.clear()
            if await self._run_consumer():
                backoff.reset()
            if not self._stopping.is_set():
                metrics.RESTARTS.labels(*self._labels).inc()
                await wait_for_event(self._stopping, backoff.next())

    async def _run_consumer(self) -> bool:
        """Run one consumer until it breaks or we stop; says whether it ever got as far as an assignment."""
        broker = make_broker(
            self._settings,
            topic=self._topic,
            group=self.group,
            max_records=self._settings.projectors_batch_records,
            poller=self,
        )
        try:
            await asyncio.wait_for(broker.start(), START_SECONDS)
            self._log.info("feed.started", group=self.group)
            await self._until_stopping_or_broken()
            await self._written()
        except KAFKA_ERRORS as error:
            self._log.warning("feed.kafka_unavailable", error=describe(error))
        finally:
            joined = self._joined
            await self._discard(broker)
            await self._written()
        return joined

    async def _until_stopping_or_broken(self) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (self._stopping, self._broken)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _discard(self, broker: KafkaBroker) -> None:
        """Stop a consumer; what it still says about that cannot matter any more."""
        try:
            await stop_broker(broker)
        except Exception as error:  # noqa: BLE001 - it is being thrown away
            self._log.warning("feed.stop_failed", error=describe(error))
        self.revoked()

    def _break(self, error: BaseException | str) -> None:
        if not self._broken.is_set():
            self._log.warning("feed.consumer_discarded", error=error if isinstance(error, str) else describe(error))
            self._broken.set()

    # -- Assignments, from the consumer's own task -------------------------------------------------------------------

    def revoked(self) -> None:
        """Forget every place; a batch in flight may still commit, its checkpoints decide."""
        self._epoch += 1
        self._joined = False
        self._unplaced = set()
        self._clear_places()

    def assigned(self, consumer: AIOKafkaConsumer, partitions: set[TopicPartition]) -> None:
        """Leave a note for the loop."""
        del consumer
        self._epoch += 1
        self._joined = True
        self._unplaced = set(partitions)
        self._log.info("feed.assigned", partitions=sorted(partition.partition for partition in partitions))

    def _lose_places(self, error: CheckpointMovedError) -> None:
        """Read the checkpoints again: somebody else has moved them, or a crash of the server."""
        self._log.info("feed.checkpoint_moved", reason=describe(error))
        self._epoch += 1
        self._unplaced |= {TopicPartition(self._topic, number) for number in self._places}
        self._clear_places()

    def _clear_places(self) -> None:
        for number in self._places:
            for gauge in (metrics.LAG_RECORDS, metrics.LAG_SECONDS):
                gauge.remove(*self._labels, str(number))
        self._places = {}

    # -- The loop ----------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        self._turned = time.monotonic()

    async def poll(self, consumer: AIOKafkaConsumer) -> Records:
        """One turn: place what is unplaced, wait for records, note what is up to date."""
        self._turn()
        if self._broken.is_set() or self._stopping.is_set():
            # The consumer is being stopped, which cancels this.
            await asyncio.Event().wait()
        try:
            return await self._poll(consumer)
        except KAFKA_ERRORS as error:
            self._break(error)
        except DATABASE_ERRORS as error:
            await self._retry_later(error)
        except CheckpointMovedError as error:
            self._lose_places(error)
        except TooLateError as error:
            await self._refuse(error)
        except Exception as error:  # noqa: BLE001 - FastStream would swallow it and go on; a new consumer is surer
            self._log.exception("feed.poll_failed")
            self._break(error)
        return ()

    async def _poll(self, consumer: AIOKafkaConsumer) -> Records:
        if self._unplaced and not await self._place(consumer):
            return ()
        async with asyncio.timeout(POLL_DEADLINE_SECONDS):
            wait_ms = BUILDING_POLL_MS if self._building else POLL_MS
            fetched = await fetch(consumer, wait_ms, self._settings.projectors_batch_records)
        self._turn()
        records, self._moves = await self._take(consumer, fetched)
        self._adapt(consumer, self._turned, came=bool(fetched))
        if not records:
            await self._rest(consumer)
        return records

    def _adapt(self, consumer: AIOKafkaConsumer, now: float, *, came: bool) -> None:
        """Wait for more than one record while they keep coming; not for the first, and not in a replay."""
        patient = came and now - self._came < 2 * self._patience and not self._building
        set_patience(consumer, int(self._patience * 1000) if patient else 0)
        if came:
            self._came = now

    async def _take(self, consumer: AIOKafkaConsumer, fetched: Fetched) -> tuple[Records, list[Move]]:
        records: list[ConsumerRecord[bytes, bytes]] = []
        moves = []
        for partition, found in fetched.items():
            place = self._places.get(partition.partition)
            if place is None:
                continue
            # Right after a seek an older answer may come; offsets grow.
            new = found if found[0].offset >= place.expected else _from(found, place.expected)
            if not new:
                continue
            position = await consumer.position(partition)
            self._observe(consumer, partition, place)
            seen_until = self._seen_until(place, position, new[-1].timestamp)
            moves.append(Move(partition.partition, place.expected, position, seen_until))
            records += new
        return tuple(records), moves

    async def handle(self, consumer: AIOKafkaConsumer, records: Records) -> None:
        """Apply what `poll` returned, as often as it takes, unless the partitions go to somebody else meanwhile."""
        epoch, moves = self._epoch, self._moves
        try:
            batch = await Batch.of(records, moves)
            await self._written()
            if epoch != self._epoch:
                # They went to somebody else, or the batch before did not fit its checkpoints: these come again.
                return
            for move in moves:
                self._places[move.partition].expected = move.position
            # Not in the handler's context, in which FastStream keeps the message, and so all of its records.
            self._writing = asyncio.create_task(self._apply(consumer, batch, epoch), context=Context())
        except Exception as error:  # noqa: BLE001 - FastStream would swallow it and read on behind these records
            self._log.exception("feed.batch_failed", records=len(records))
            self._break(error)

    async def _written(self) -> None:
        """Wait for the batch in flight; one at a time is, so batches commit in order."""
        writing = self._writing
        if writing is None:
            return
        # Not awaited itself: cancelling who waits, as a consumer's stop does, must not cancel the writing.
        await asyncio.wait([writing])
        if self._writing is writing:
            self._writing = None

    async def _apply(self, consumer: AIOKafkaConsumer, batch: Batch, epoch: int) -> None:
        try:
            with self._timed():
                applied = await self._write(batch, epoch)
        except CheckpointMovedError as error:
            if epoch == self._epoch:
                self._lose_places(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing may be read on behind these records
            self._log.exception("feed.batch_failed", records=len(batch.items))
            self._break(error)
        else:
            if applied and epoch == self._epoch:
                self._moved(batch.moves)
                await self._show_offsets(consumer)

    async def _write(self, batch: Batch, epoch: int) -> bool:
        """Write until it succeeds; False when the batch was left to others, or to our next start."""
        while not self._broken.is_set():
            self._turn()
            try:
                parked = await self._writer.write(batch, notify=not self._building)
            except DATABASE_ERRORS as error:
                if epoch != self._epoch or self._stopping.is_set():
                    return False
                await self._retry_later(error)
            else:
                self._database_works()
                metrics.APPLIED.labels(*self._labels).inc(len(batch.items))
                metrics.PARKED.labels(*self._labels).inc(parked)
                if parked:
                    self._log.warning("feed.records_parked", records=parked)
                return True
        return False

    async def _retry_later(self, error: Exception) -> None:
        metrics.RETRIES.labels(*self._labels).inc()
        delay = self._backoff.next()
        # Once per change, not per try.
        if not self._unavailable:
            self._log.warning("feed.database_unavailable", error=describe(error))
        self._unavailable = True
        await wait_for_event(self._stopping, delay)

    def _database_works(self) -> None:
        self._backoff.reset()
        if self._unavailable:
            self._log.info("feed.database_available")
        self._unavailable = False

    async def _refuse(self, error: TooLateError) -> None:
        """Stay out of it, and say why, until an operator has decided."""
        if self.refusal is None:
            self._log.error("feed.refused", reason=str(error))
        self.refusal = str(error)
        await wait_for_event(self._stopping, RETRY_CAP_SECONDS)

    # -- Positions ---------------------------------------------------------------------------------------------------

    async def _place(self, consumer: AIOKafkaConsumer) -> bool:
        """Read checkpoints, seek, resume; False when the assignment changed meanwhile or the generation is gone."""
        await self._written()
        epoch, partitions = self._epoch, sorted(self._unplaced)
        async with self._database.connection() as connection:
            found = await checkpoints.read(
                connection, self.generation, self._topic, [partition.partition for partition in partitions]
            )
        limits = await topic_limits(consumer, partitions, self._settings.topic_delete_retention_ms)
        if epoch != self._epoch:
            return False
        if len(found) < len(partitions):
            await wait_for_event(self._stopping, TICK_SECONDS)
            return False
        refuse_if_too_late(self.generation, found, limits)
        for partition in partitions:
            checkpoint = found[partition.partition]
            consumer.seek(partition, checkpoint.position)
            self._places[partition.partition] = _Place(
                checkpoint.position, checkpoint.position, checkpoint.seen_until, end=limits.ends[partition.partition]
            )
        consumer.resume(*partitions)
        self._unplaced -= set(partitions)
        self.refusal = None
        self._placed = time.time()
        self._database_works()
        return True

    async def _rest(self, consumer: AIOKafkaConsumer) -> None:
        """Nothing came: note, at most once a second, how far quiet partitions are up to date."""
        await self._written()
        if not self._places:
            return
        self._break_if_silent(consumer)
        now = time.monotonic()
        tick = 0.0 if self._building else TICK_SECONDS
        moves = []
        for number, place in self._places.items():
            partition = TopicPartition(self._topic, number)
            self._observe(consumer, partition, place)
            position = await consumer.position(partition)
            seen_until = self._seen_until(place, position, None)
            newer = seen_until is not None and (place.seen_until is None or seen_until > place.seen_until)
            if now - place.written >= tick and (newer or position > place.position):
                moves.append(Move(number, place.position, position, seen_until))
        if moves:
            epoch = self._epoch
            await self._writer.write(Batch((), moves))
            self._database_works()
            if epoch == self._epoch:
                self._moved(moves)
                await self._show_offsets(consumer)

    def _observe(self, consumer: AIOKafkaConsumer, partition: TopicPartition, place: _Place) -> None:
        place.freshness.observe(consumer.last_poll_timestamp(partition))
        place.end = consumer.last_stable_offset(partition) or place.end
        metrics.LAG_RECORDS.labels(*self._labels, str(partition.partition)).set(place.lag or 0)
        if place.seen_until is not None:
            age = (utc_now() - place.seen_until).total_seconds()
            metrics.LAG_SECONDS.labels(*self._labels, str(partition.partition)).set(max(age, 0.0))

    def _seen_until(self, place: _Place, position: int, last_record: int | None) -> datetime | None:
        at_end = place.end is not None and position >= place.end
        return place.freshness.seen_until(at_end=at_end, last_record=last_record)

    def _moved(self, moves: Sequence[Move]) -> None:
        now = time.monotonic()
        for move in moves:
            place = self._places[move.partition]
            place.position, place.written = move.position, now
            place.expected = max(place.expected, move.position)
            place.seen_until = max(filter(None, (place.seen_until, move.seen_until)), default=None)

    def _break_if_silent(self, consumer: AIOKafkaConsumer) -> None:
        answers = [consumer.last_poll_timestamp(TopicPartition(self._topic, number)) for number in self._places]
        newest = max((answer / 1000 for answer in answers if answer is not None), default=0.0)
        if time.time() - max(newest, self._placed) > SILENCE_SECONDS:
            self._break(f"the broker has not answered for {SILENCE_SECONDS:g} s")

    async def _show_offsets(self, consumer: AIOKafkaConsumer) -> None:
        """Commit the positions to Kafka too, for its own tools; nothing of ours reads them."""
        now = time.monotonic()
        if now - self._shown < TICK_SECONDS or self._stopping.is_set() or self._broken.is_set():
            return
        self._shown = now
        offsets = {TopicPartition(self._topic, number): place.position for number, place in self._places.items()}
        try:
            async with asyncio.timeout(SHOW_SECONDS):
                await consumer.commit(offsets)
        except (KafkaError, TimeoutError) as error:
            # A rebalance in mid-handler: the checkpoint is what counts.
            self._log.debug("feed.offsets_not_shown", error=describe(error))

    @contextmanager
    def _timed(self) -> Iterator[None]:
        with metrics.BATCH_SECONDS.labels(*self._labels).time():
            yield


def _from(found: Sequence[ConsumerRecord[bytes, bytes]], position: int) -> Sequence[ConsumerRecord[bytes, bytes]]:
    return [record for record in found if record.offset >= position]


def group_of(settings: ProjectorSettings, generation: Generation) -> str:
    """The consumer group of a generation."""
    return f"{settings.projectors_group}.{generation.projection}.g{generation.number}"
