"""The writing of batches, beside the loop: one batch at a time, as often as it takes.

The checkpoints' compare-and-set keeps batches in order, also when one fails.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import asyncpg

from chassis.kafka.client import KAFKA_ERRORS
from chassis.lifecycle import Backoff, wait_for_event
from chassis.outages import Outage
from chassis.postgres.database import DatabaseUnavailableError, describe
from chassis.tracing.messaging import Processing
from chassis.tracing.spans import Span
from projectors.consumer import metrics
from projectors.consumer.assignment import Assignment
from projectors.consumer.batches import BatchWriter, DecodedBatch
from projectors.consumer.checkpoints import CheckpointMovedError

#: Retries of whatever failed: quick at first, and never further apart than this, so that an outage's end is noticed.
FIRST_RETRY_SECONDS: Final = 0.05
RETRY_CAP_SECONDS: Final = 5.0
#: Parked records are told at most so often: a flood parks some in every batch.
PARKED_SECONDS: Final = 1.0

DATABASE_ERRORS: Final = (DatabaseUnavailableError, asyncpg.PostgresError)


class ConsumerLostError(Exception):
    """This consumer is of no use any more: another one reads again what it has read."""


class Pulse:
    """When a feed last did anything; it does several times a second, through outages too."""

    def __init__(self) -> None:
        """Alive."""
        self.beat()

    def beat(self) -> None:
        """Still alive."""
        self._last = time.monotonic()

    @property
    def idle_seconds(self) -> float:
        """Since the last beat."""
        return time.monotonic() - self._last


class Writing:
    """The batch in flight of one feed, and the outages of its database."""

    def __init__(  # noqa: PLR0913, PLR0917 - what a feed is made of
        self,
        writer: BatchWriter,
        assignment: Assignment,
        labels: tuple[str, str],
        stopping: asyncio.Event,
        log: Any,
        processing: Processing | None = None,
    ) -> None:
        """Bind; nothing is in flight."""
        self._processing = processing
        self.pulse = Pulse()
        self._writer = writer
        self._assignment = assignment
        self._labels = labels
        metrics.begin(labels)
        self._stopping = stopping
        self._log = log
        self._outage = Outage(log, "feed.database_unavailable", "feed.database_available")
        self._backoff = Backoff(first=FIRST_RETRY_SECONDS, cap=RETRY_CAP_SECONDS)
        self._in_flight: asyncio.Task[None] | None = None
        #: When that was first tried which is not in the database yet, monotonic; None: all is.
        self._waiting_since: float | None = None
        #: Records parked since they were last told of, and the time of that.
        self._parked, self._parked_told = 0, float("-inf")

    @property
    def waiting_seconds(self) -> float:
        """How long the database has not taken what was read; 0 where it has."""
        return 0.0 if self._waiting_since is None else time.monotonic() - self._waiting_since

    def begin(self, batch: DecodedBatch, *, notify: bool, then: Callable[[], Awaitable[None]]) -> None:
        """Write a batch beside the caller, who has waited for the one before; `then` runs after its commit."""
        self._assignment.expect(batch.moves)
        self._in_flight = asyncio.create_task(self._write(batch, self._assignment.epoch, notify=notify, then=then))

    async def finished(self) -> None:
        """Wait for the batch in flight.

        Raises:
            ConsumerLostError: it could not be written, and nothing may be read on behind it.
        """
        in_flight = self._in_flight
        if in_flight is None:
            return
        # Not awaited itself: cancelling the one who waits, as a stop does, must not cancel the writing.
        await asyncio.wait([in_flight])
        if self._in_flight is in_flight:
            self._in_flight = None
        in_flight.result()

    async def write_now(self, batch: DecodedBatch) -> bool:
        """Write a batch without records, once; False when the partitions have gone to somebody else meanwhile.

        Raises:
            CheckpointMovedError, DatabaseUnavailableError, asyncpg.PostgresError: as BatchWriter.write.
        """
        epoch = self._assignment.epoch
        self._wait()
        await self._writer.write(batch)
        self.database_works()
        if epoch != self._assignment.epoch:
            return False
        self._assignment.moved(batch.moves)
        return True

    async def retry_later(self, error: Exception) -> None:
        """Wait a growing time, because the database does not answer."""
        metrics.RETRIES.labels(*self._labels).inc()
        # One line an outage: its errors differ from try to try, as a server goes down and comes up.
        self._outage.failed(self._outage.reason or describe(error))
        await wait_for_event(self._stopping, self._backoff.next())

    def database_works(self) -> None:
        """The database has answered."""
        self._waiting_since = None
        self._backoff.reset()
        self._outage.over()

    async def _write(
        self, batch: DecodedBatch, epoch: int, *, notify: bool, then: Callable[[], Awaitable[None]]
    ) -> None:
        try:
            with metrics.BATCH_SECONDS.labels(*self._labels).time(), self._traced(batch):
                written = await self._write_until_it_works(batch, epoch, notify=notify)
        except CheckpointMovedError as error:
            self.database_works()
            if epoch == self._assignment.epoch:
                self._assignment.lost(describe(error))
        except KAFKA_ERRORS as error:
            raise ConsumerLostError(f"the broker was asked about a batch: {describe(error)}") from error
        except Exception as error:
            self._log.exception("feed.batch_failed", records=len(batch.items))
            raise ConsumerLostError("a batch could not be written") from error
        else:
            if written and epoch == self._assignment.epoch:
                self._assignment.moved(batch.moves)
                await then()

    def _traced(self, batch: DecodedBatch) -> AbstractContextManager[Span | None]:
        if self._processing is None:
            return nullcontext()
        return self._processing.of([item.record for item in batch.items])

    async def _write_until_it_works(self, batch: DecodedBatch, epoch: int, *, notify: bool) -> bool:
        """Write a batch; False when it was left to others, or to our next start."""
        self._wait()
        while True:
            self.pulse.beat()
            try:
                parked = await self._writer.write(batch, notify=notify)
            except DATABASE_ERRORS as error:
                if epoch != self._assignment.epoch or self._stopping.is_set():
                    return False
                await self.retry_later(error)
            else:
                break
        self.database_works()
        metrics.APPLIED.labels(*self._labels).inc(len(batch.items))
        metrics.PARKED.labels(*self._labels).inc(parked)
        self._tell_parked(parked)
        return True

    def _wait(self) -> None:
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()

    def _tell_parked(self, parked: int) -> None:
        self._parked += parked
        if self._parked and time.monotonic() >= self._parked_told + PARKED_SECONDS:
            self._log.warning("feed.records_parked", records=self._parked)
            self._parked, self._parked_told = 0, time.monotonic()
