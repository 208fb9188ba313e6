"""Publishing one batch in one Kafka transaction, together with the record that names it.

Rules learnt by trial: records go out as whole batches per partition, since `send()` costs a task per record and
computes the partition anew each time; every future is awaited before the commit, which does not notice failed sends;
and a producer that has failed once is never used again, because a fenced one may still seem to begin; nor is one that
has lost a connection (outbox/publishing/producer.py). Starting a publisher fences its predecessor of the same name
(KIP-98) and completes or aborts the transaction that it left open.
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

from chassis.kafka.client import client_arguments
from chassis.postgres.database import describe
from outbox.publishing.partitioning import partition_of
from outbox.publishing.producer import ConnectionLostError, Producer
from outbox.publishing.record_batch import RecordBatch, encode_event, record_batches
from outbox.relay.work_list import Row
from outbox.settings import RelaySettings

log = structlog.get_logger("outbox.publisher")

#: Finding the coordinator and fencing a predecessor take a tenth of a second; a broker that starts takes seconds.
START_SECONDS: Final = 20.0
#: A page of 8 MiB takes well under a second; a transaction that takes longer is settled, not waited for.
PUBLISH_SECONDS: Final = 30.0
STOP_SECONDS: Final = 5.0
#: Bytes of one record batch before compression, below the topics' max.message.bytes (events/topics.py).
BATCH_BYTES: Final = 512 * 1024
#: Users whose partition is remembered: a hash in Python takes longer than finding it.
_CACHED_USERS: Final = 65_536

Reached = Callable[[str], Awaitable[None]]
#: A partition and what goes there.
Batches = tuple[int, list[RecordBatch]]


async def nothing_happens(_: str) -> None:
    """The failpoint of production: tests pass one that kills, waits or fails at a named point."""


class Publisher:
    """A started transactional producer; after any error, close it and open another."""

    def __init__(self, settings: RelaySettings, *, reached: Reached = nothing_happens) -> None:
        """Use `open`."""
        self._settings = settings
        self._reached = reached
        self._partition_of = lru_cache(_CACHED_USERS)(self._compute_partition)
        self._deadline: asyncio.Timeout | None = None
        self._producer = Producer(
            when_lost=self._give_up,
            **client_arguments(settings),
            transactional_id=f"muster.relay.{settings.relay_name}",
            transaction_timeout_ms=settings.relay_transaction_timeout_ms,
            compression_type="lz4",
            max_batch_size=BATCH_BYTES,
            max_request_size=2 * BATCH_BYTES,
        )

    @classmethod
    async def open(cls, settings: RelaySettings, *, reached: Reached = nothing_happens) -> Publisher:
        """Start, and fence whoever published under this name before.

        Raises:
            KafkaError, OSError, TimeoutError: no broker, or none that coordinates transactions yet;
                ConnectionLostError at once when a connection ends meanwhile.
        """
        publisher = cls(settings, reached=reached)
        try:
            # aiokafka would ask for its producer id for ever, a lost connection or not.
            async with publisher._in_time(START_SECONDS):
                await publisher._producer.start()
        except BaseException:
            await publisher.close()
            raise
        return publisher

    @property
    def lost(self) -> asyncio.Event:
        """Set once a connection to a broker has ended: nothing can be published here any more."""
        return self._producer.lost

    def check(self) -> None:
        """Do nothing while this publisher can be used.

        Raises:
            ConnectionLostError: it cannot any more.
        """
        if self.lost.is_set():
            raise ConnectionLostError("the connection to a broker was lost")

    async def close(self) -> None:
        """Discard the producer; what it left open is settled by the next one."""
        try:
            await asyncio.wait_for(self._producer.discard(), STOP_SECONDS)
        except Exception as error:  # noqa: BLE001 - it is being thrown away; the next producer settles what it left
            log.info("outbox.producer_stop_failed", error=describe(error))

    async def prepare(self, rows: Sequence[Row]) -> list[Batches]:
        """The rows as record batches, in their order per partition; others get their turn between two partitions.

        It needs no transaction, so the next page can be prepared while the last one is in flight.
        """
        partitions: defaultdict[int, list[Row]] = defaultdict(list)
        for row in rows:
            partitions[self._partition_of(row["user_id"])].append(row)
        prepared, now = [], int(time.time() * 1000)
        for partition, its_rows in partitions.items():
            prepared.append((partition, list(record_batches(map(encode_event, its_rows), now, BATCH_BYTES))))
            await asyncio.sleep(0)
        return prepared

    async def publish(self, prepared: Iterable[Batches], record: bytes, settled: asyncio.Event | None = None) -> None:
        """Publish what was prepared, and the record; all of it or, for read_committed readers, nothing.

        It is sent at once and committed not before `settled` is set.

        Raises:
            Exception: the outcome is unknown until a new publisher is open and the relay's record is read.
        """
        async with self._in_time():
            await self._reached("before_begin")
            await self._producer.begin_transaction()
            async with asyncio.TaskGroup() as sending:
                sending.create_task(self._send_record(record))
                for partition, batches in prepared:
                    sending.create_task(self._send(partition, batches))
            await self._reached("before_commit")
            if settled is not None:
                await settled.wait()
            await self._producer.commit_transaction()

    async def end_transaction_on(self, partitions: Sequence[TopicPartition], *, commit: bool) -> None:
        """Write a marker and nothing else to these partitions: an empty transaction that claims them.

        aiokafka claims a partition only by sending to it, so its transaction manager is asked directly; the version is
        pinned (docs/decisions/0017) and a test holds it to this.
        """
        async with self._in_time():
            await self._producer.begin_transaction()
            for partition in partitions:
                self._producer._txn_manager.maybe_add_partition_to_txn(partition)  # noqa: SLF001 - see above
            await (self._producer.commit_transaction() if commit else self._producer.abort_transaction())

    @asynccontextmanager
    async def _in_time(self, seconds: float = PUBLISH_SECONDS) -> AsyncIterator[None]:
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

    def _give_up(self) -> None:
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time())

    async def _send_record(self, record: bytes) -> None:
        name = self._settings.relay_name.encode()
        await (await self._producer.send(self._settings.relay_topic, record, key=name, partition=0))

    async def _send(self, partition: int, batches: Iterable[RecordBatch]) -> None:
        topic = self._settings.events_topic
        acknowledged = [await self._producer.send_batch(batch, topic, partition=partition) for batch in batches]
        await self._reached("after_send")
        for future in acknowledged:
            await future

    def _compute_partition(self, user_id: str) -> int:
        return partition_of(user_id.encode(), self._settings.topic_partitions)
