"""Publishing one page in one Kafka transaction, together with the record that names it.

Rules learnt by trial:

- Records go out as whole batches per partition: `send()` costs a task per record and computes the partition anew.
- Every future is awaited before the commit, because the commit does not notice failed sends.
- A producer that has failed once is never used again, because a fenced one may still seem to begin a transaction; nor
  is one that has lost a connection (outbox/publishing/producer.py).

Starting a publisher fences the one before it with the same name (KIP-98) and ends the transaction that it left open.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Final

import structlog
from aiokafka import TopicPartition

from chassis.kafka.client import answering, client_arguments
from chassis.lifecycle import wait_at_most
from chassis.postgres.database import describe
from outbox.publishing.partitioning import partition_of
from outbox.publishing.producer import ConnectionLostError, Producer
from outbox.publishing.record_batch import RecordBatch, encode_event, record_batches
from outbox.settings import RelaySettings
from outbox.table import OutboxRow

log = structlog.get_logger("outbox.publisher")

#: Finding the coordinator and fencing a predecessor take a tenth of a second. Where a frozen broker is not fenced yet,
#: aiokafka may ask it, and wait; another start asks the others again (docs/decisions/0037).
START_SECONDS: Final = 5.0
#: A page of 8 MiB takes well under a second; a transaction that takes longer is settled, not waited for.
TRANSACTION_SECONDS: Final = 30.0
STOP_SECONDS: Final = 5.0
#: Bytes of one record batch before compression, below the topics' max.message.bytes (events/topics.py).
BATCH_BYTES: Final = 512 * 1024
#: Rows that are encoded until other tasks may run: half a millisecond.
ROWS_AT_ONCE: Final = 500
#: Subjects whose partition is cached: a hash in Python takes longer than a look-up.
_CACHED_SUBJECTS: Final = 65_536

#: Called at named points of the work: tests pass one that kills, waits or fails there.
Failpoint = Callable[[str], Awaitable[None]]
#: A partition and what goes there.
PartitionBatches = tuple[int, list[RecordBatch]]


async def no_failpoint(_: str) -> None:
    """The failpoint of production: nothing happens."""


class Publisher:
    """A started transactional producer; after any error, close it and open another."""

    def __init__(self, settings: RelaySettings, *, failpoint: Failpoint = no_failpoint) -> None:
        """Use `open`."""
        self._settings = settings
        self._failpoint = failpoint
        self._partition_of = lru_cache(_CACHED_SUBJECTS)(self._compute_partition)
        self._deadline: asyncio.Timeout | None = None
        self._producer = Producer(
            when_lost=self._expire,
            **client_arguments(settings),
            transactional_id=settings.publishing_id,
            transaction_timeout_ms=settings.relay_transaction_timeout_ms,
            compression_type="lz4",
            max_batch_size=BATCH_BYTES,
            max_request_size=2 * BATCH_BYTES,
        )

    @classmethod
    async def open(cls, settings: RelaySettings, *, failpoint: Failpoint = no_failpoint) -> Publisher:
        """Start, and fence whoever published under this name before.

        Raises:
            KafkaError, OSError, TimeoutError: no broker answers, or none coordinates transactions yet;
                ConnectionLostError at once when a connection ends meanwhile.
        """
        publisher = cls(await answering(settings), failpoint=failpoint)
        try:
            # aiokafka by itself asks for its producer id for ever, even after the connection is lost.
            async with publisher._within(START_SECONDS):
                await publisher._producer.start()
        except BaseException:
            await publisher.close()
            raise
        return publisher

    @property
    def lost(self) -> asyncio.Event:
        """Set once a connection to a broker has ended: this publisher can publish nothing any more."""
        return self._producer.lost

    def check(self) -> None:
        """Do nothing while this publisher can be used.

        Raises:
            ConnectionLostError: it cannot any more.
        """
        if self.lost.is_set():
            raise ConnectionLostError("the connection to a broker was lost")

    async def close(self) -> None:
        """Discard the producer; the next one settles what it left open."""
        try:
            await wait_at_most(self._producer.discard(), STOP_SECONDS)
        except Exception as error:  # noqa: BLE001 - it is thrown away; the next producer settles what it left open
            log.info("outbox.producer_stop_failed", error=describe(error))

    async def prepare(self, rows: Sequence[OutboxRow]) -> list[PartitionBatches]:
        """The rows as record batches, in their order on each partition; other tasks run in between.

        It needs no transaction, so the next page can be prepared while the last one is in flight.
        """
        partitions: defaultdict[int, list[bytes]] = defaultdict(list)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            # Row by row, as they lie in memory: partition by partition takes twice as long, waiting for memory.
            for row in rows[start : start + ROWS_AT_ONCE]:
                partitions[self._partition_of(row["subject_id"])].append(encode_event(row))
            await asyncio.sleep(0)
        prepared, now = [], int(time.time() * 1000)
        for partition, records in partitions.items():
            prepared.append((partition, list(record_batches(records, now, BATCH_BYTES))))
            await asyncio.sleep(0)
        return prepared

    async def publish(
        self, prepared: Iterable[PartitionBatches], record: bytes, settled: asyncio.Event | None = None
    ) -> None:
        """Publish a prepared page and its record: read_committed readers get all of it or nothing.

        It is sent at once, and committed once `settled` is set.

        Raises:
            Exception: the outcome is unknown until a new publisher is open and the relay's record is read.
        """
        async with self._within(TRANSACTION_SECONDS):
            await self._failpoint("before_begin")
            await self._producer.begin_transaction()
            await self._send_all(prepared, self._send_record(record))
            await self._failpoint("before_commit")
            if settled is not None:
                await settled.wait()
            await self._producer.commit_transaction()

    async def try_out(self, prepared: Iterable[PartitionBatches]) -> None:
        """Send rows and abort: nobody who reads committed records sees them.

        Raises:
            Exception: they were not taken, and this publisher cannot be used any more.
        """
        async with self._within(TRANSACTION_SECONDS):
            await self._producer.begin_transaction()
            await self._send_all(prepared)
            await self._producer.abort_transaction()

    async def end_transaction_on(self, partitions: Sequence[TopicPartition], *, commit: bool) -> None:
        """Write a marker and nothing else to these partitions, by an empty transaction that claims them.

        aiokafka claims a partition only when something is sent to it, so its transaction manager is asked directly
        (docs/decisions/0017).
        """
        async with self._within(TRANSACTION_SECONDS):
            await self._producer.begin_transaction()
            for partition in partitions:
                self._producer._txn_manager.maybe_add_partition_to_txn(partition)  # noqa: SLF001 - see above
            await (self._producer.commit_transaction() if commit else self._producer.abort_transaction())

    @asynccontextmanager
    async def _within(self, seconds: float) -> AsyncIterator[None]:
        """End the block after the seconds, and at once when a connection is lost."""
        self.check()
        try:
            async with asyncio.timeout(seconds) as self._deadline:
                yield
        except TimeoutError:
            self.check()
            raise
        finally:
            self._deadline = None

    def _expire(self) -> None:
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time())

    async def _send_all(self, prepared: Iterable[PartitionBatches], *more: Awaitable[None]) -> None:
        sending = [*more, *(self._send(partition, batches) for partition, batches in prepared)]
        # All are heard: after a refused record, aiokafka says of the others only that they come too late.
        errors = [one for one in await asyncio.gather(*sending, return_exceptions=True) if one is not None]
        if errors:
            raise BaseExceptionGroup("not sent", errors)

    async def _send_record(self, record: bytes) -> None:
        name = self._settings.relay_name.encode()
        await (await self._producer.send(self._settings.relay_topic, record, key=name, partition=0))

    async def _send(self, partition: int, batches: Iterable[RecordBatch]) -> None:
        topic = self._settings.events_topic
        acknowledged = [await self._producer.send_batch(batch, topic, partition=partition) for batch in batches]
        await self._failpoint("after_send")
        for future in acknowledged:
            await future

    def _compute_partition(self, subject_id: str) -> int:
        return partition_of(subject_id.encode(), self._settings.topic_partitions)
