"""A feed: one generation of one projection, fed from its topic by this process, through any outage.

Here is the life of its consumers: a consumer that fails, or hears nothing from the broker, is discarded and made anew.
What one of them does, turn by turn, is in projectors/consumer/loop.py. Each turn leaves a mark of the time; a loop that
leaves none is stuck beyond repair, and the process ends (projectors/fleet.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from aiokafka import AIOKafkaConsumer

from chassis.kafka.client import KAFKA_ERRORS, answering
from chassis.kafka.refusals import REFUSALS, explain
from chassis.lifecycle import Backoff, end_task, wait_for_event
from chassis.outages import Outage, describe_unexpected
from chassis.postgres.database import Database, describe
from chassis.tracing.messaging import Processing
from chassis.tracing.spans import Attributes, Tracer
from projectors.consumer import metrics
from projectors.consumer.assignment import Assignment
from projectors.consumer.batches import BatchWriter
from projectors.consumer.feed_settings import FeedSettings
from projectors.consumer.loop import FeedRefusedError, Loop
from projectors.consumer.subscription import SESSION_TIMEOUT_MS, Subscription
from projectors.consumer.writing import FIRST_RETRY_SECONDS, RETRY_CAP_SECONDS, ConsumerLostError, Writing
from projectors.projections.projection import Projection
from projectors.trust.compaction import Compaction
from read_model.feeding import SILENT_SECONDS, FeedState, why_gone, why_refused, why_unfed
from read_model.generations import Generation

log = structlog.get_logger("projectors.feed")

#: A feed that is refused says this often that it lives.
REFUSED_BEAT_SECONDS: Final = 1.0
#: These errors make another consumer necessary, and are told in one line.
LOST: Final[tuple[type[Exception], ...]] = (*KAFKA_ERRORS, ConsumerLostError)


class Feed:
    """Feeds one generation; `run` until told to stop."""

    def __init__(
        self,
        settings: FeedSettings,
        database: Database,
        projection: Projection,
        generation: Generation,
        tracer: Tracer | None = None,
    ) -> None:
        """Bind; nothing is opened."""
        self.group = f"{settings.group}.{generation.projection}.g{generation.number}"
        self._settings = settings
        self.topic = projection.subject.topic(settings.topics)
        self._log = log.bind(projection=generation.projection, generation=generation.number)
        self._labels = (generation.projection, str(generation.number))
        self._outage = Outage(self._log, "feed.kafka_unavailable", "feed.kafka_available")
        self._stopping = asyncio.Event()
        self.assignment = Assignment(self.topic, self._labels, self._log)
        lag = timedelta(milliseconds=settings.topics.topic_min_compaction_lag_ms)
        self._compaction = Compaction(self.topic, lag, self.assignment.clock)
        writer = BatchWriter(database, projection, generation, self.topic, self._compaction)
        processing = self._processing(tracer, generation) if tracer else None
        self._writing = Writing(writer, self.assignment, self._labels, self._stopping, self._log, processing)
        self._loop = Loop(
            settings, database, projection, generation,
            assignment=self.assignment, writing=self._writing, stopping=self._stopping, log=self._log,
        )  # fmt: skip
        #: The partitions that nobody feeds; looked at where this member has none.
        self.unfed: Sequence[int] = ()
        #: The refusal of the brokers that the last consumer met; None where none is known.
        self._refused: str | None = None
        #: True once it has been near the end.
        self._ready = False

    def _processing(self, tracer: Tracer, generation: Generation) -> Processing:
        about: Attributes = {"muster.projection": generation.projection, "muster.generation": generation.number}
        return Processing(tracer, topic=self.topic, group=self.group, attributes=about)

    @property
    def generation(self) -> Generation:
        """The generation that is fed, in the status that was last followed."""
        return self._loop.generation

    def follow(self, generation: Generation) -> None:
        """Feed the same generation in another status: one that is being built is fed without notices.

        A refusal stays, whoever was slow to read it.
        """
        self._loop.generation = replace(generation, refusal=generation.refusal or self.generation.refusal)

    @property
    def topic_id(self) -> UUID | None:
        """The topic that is read from; None before that is known."""
        return self._loop.topic_id

    @property
    def is_spare(self) -> bool:
        """True where the group has given it no partitions."""
        return self.assignment.joined and not self.assignment and not self.assignment.unplaced

    @property
    def idle_seconds(self) -> float:
        """Since the loop last turned; it turns several times a second, through outages too."""
        return self._writing.pulse.idle_seconds

    def state(self) -> tuple[FeedState, str]:
        """The generation's state, as far as this member knows it, and why it is no better.

        A rebalance that ends within the session timeout is no state.
        """
        if self.generation.refusal is not None:
            return FeedState.REFUSED, why_refused(self.generation)
        if self._loop.topic_is_gone:
            return FeedState.TOPIC_GONE, why_gone(self.topic)
        apart = time.monotonic() - self.assignment.apart_since
        if not self.assignment.joined and apart > SESSION_TIMEOUT_MS / 1000:
            alone = f"it has had no assignment for {apart:.0f} s: see whether Kafka answers"
            return FeedState.UNASSIGNED, self._refused or alone
        if self.is_spare and self.unfed:
            return FeedState.UNASSIGNED, why_unfed(self.generation, self.unfed)
        if self._writing.waiting_seconds > SILENT_SECONDS:
            waiting = f"the query database has not taken what was read for {self._writing.waiting_seconds:.0f} s"
            return FeedState.UNASSIGNED, f"{waiting}: see the log, and who holds locks on `checkpoints`"
        return FeedState.FED, ""

    def why_not_ready(self) -> str | None:
        """The reason; None once this member has its partitions, or is a spare, and was not far behind once."""
        state, reason = self.state()
        if state is not FeedState.FED:
            return f"is {state}: {reason}"
        if not self.assignment.joined and not self._ready:
            return self._refused or "has no assignment yet"
        if self.assignment.unplaced and not self._ready:
            return "has not read its checkpoints yet"
        limit = self._settings.ready_lag_records
        behind = self.assignment.behind(limit)
        if behind and not self._ready:
            return f"is more than {limit} records behind in partitions {', '.join(map(str, behind))}"
        self._ready = True
        return None

    def show_ages(self) -> None:
        """Have the metrics say how old what is readable is, also while the loop waits for a database."""
        self.assignment.show_ages()

    def stop(self) -> None:
        """Ask `run` to finish what it began and return."""
        self._stopping.set()

    async def run(self) -> None:
        """Feed until `stop`; a consumer that fails is replaced, with growing delays."""
        backoff = Backoff(first=FIRST_RETRY_SECONDS, cap=RETRY_CAP_SECONDS)
        while not self._stopping.is_set():
            self._writing.pulse.beat()
            if self.generation.refusal is not None:
                await wait_for_event(self._stopping, REFUSED_BEAT_SECONDS)
                continue
            if await self._run_consumer():
                backoff.reset()
            if not self._stopping.is_set():
                metrics.RESTARTS.labels(*self._labels).inc()
                await wait_for_event(self._stopping, backoff.next())

    async def _run_consumer(self) -> bool:
        """Run one consumer until it is lost or we stop; says whether it ever got as far as an assignment."""
        kafka = await answering(self._settings.kafka)
        subscription = Subscription(kafka, topic=self.topic, group=self.group, assignments=self.assignment)
        begun = time.monotonic()
        try:
            self._compaction.consumer = consumer = await subscription.start()
            self._outage.over()
            if self._refused is None:
                self._log.info("feed.started", group=self.group)
            await self._turn_until_stopped(consumer)
        except KAFKA_ERRORS as error:
            # One line an outage, whatever its errors say from try to try.
            said = self._explain(error)
            self._outage.failed(said if self._refused else self._outage.reason or said)
        finally:
            joined = self.assignment.joined
            if joined and time.monotonic() - begun > SESSION_TIMEOUT_MS / 1000:
                self._refused = None  # one that lacks a right does not live so long
            await self._discard(subscription)
        return joined

    async def _turn_until_stopped(self, consumer: AIOKafkaConsumer) -> None:
        """Let the loop turn until we stop or the consumer is lost; a batch that has begun is finished."""
        turning = asyncio.create_task(self._loop.run(consumer))
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((turning, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_task(stopped)
            await self._end_turning(turning)

    async def _end_turning(self, turning: asyncio.Task[None]) -> None:
        try:
            await end_task(turning)
            await self._writing.finished()
        except FeedRefusedError:
            self._log.info("feed.stands_still")
        except LOST as error:
            before, said = self._refused, self._explain(error)
            # A right that is missing ends one consumer after the other: that is told once.
            if before is None or before != self._refused:
                self._log.warning("feed.consumer_discarded", error=said)
        except Exception as error:  # noqa: BLE001 - a mistake of ours, or a library's: a new consumer is surer
            self._log.exception("feed.poll_failed")
            self._log.warning("feed.consumer_discarded", error=describe_unexpected(error))

    def _explain(self, error: Exception) -> str:
        said = explain(error)
        self._refused = said if isinstance(error, REFUSALS) else None
        return said

    async def _discard(self, subscription: Subscription) -> None:
        """Stop a consumer, and wait for what it still writes; what it says about that cannot matter any more."""
        self.assignment.revoked()
        try:
            await subscription.stop()
        except Exception as error:  # noqa: BLE001 - it is being thrown away
            self._log.warning("feed.stop_failed", error=describe(error))
        self.assignment.revoked()
        with suppress(Exception):
            await self._writing.finished()
