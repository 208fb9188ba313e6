"""The one consumer that reads along the end of the topic, through any outage, and fills the ring."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Final

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from chassis.kafka.append_times import newest_before
from chassis.kafka.leaders import Connections, is_reached_anew, leader_connections
from chassis.kafka.refusals import explain
from chassis.lifecycle import Backoff
from chassis.outages import Outage, describe_unexpected
from chassis.settings import Kafka
from event_api.log.consuming import AWAY, LogAwayError, Wrap, identity, open_consumer, position_of
from event_api.log.continuity import LogGoneError, bounds_of, require_same_log
from event_api.log.ring import Ring

log = structlog.get_logger("events")

#: The ends of the ring move at least so often for those who read them.
POLL_MS: Final = 100
#: Unpacking so many takes a millisecond, in which nothing else happens here.
POLL_RECORDS: Final = 250
#: The broker answers twice a second, records or not; after this long it is away.
SILENT_SECONDS: Final = 3.0
#: aiokafka comes back by itself from most outages; from others never. Then it is made anew.
LOST_SECONDS: Final = 15.0
#: The brokers are asked this often whether the name still means the same topic: a consumer of one that was deleted is
#: only silent.
WATCH_SECONDS: Final = 3.0
FIRST_RETRY_SECONDS: Final = 0.1
RETRY_SECONDS: Final = 2.0


class Tail:
    """Keeps a ring of the newest records; there is none until the topic was reached once."""

    def __init__(self, kafka: Kafka, topic: str, wrap: Wrap) -> None:
        """Nothing is opened before `run`."""
        self._kafka, self._topic, self._wrap = kafka, topic, wrap
        self._ring: Ring | None = None
        self._outage = Outage(log, "events.log_away", "events.log_back")
        #: Over which the log was reached when it was held against the ring.
        self._connections: Connections = {}
        #: When the broker was last heard of, and the topic looked at, by a clock that nobody steps.
        self._heard = self._watched = 0.0
        #: When the newest answer came by aiokafka's clock, in milliseconds since 1970.
        self._newest = 0
        #: When all partitions had been answered for, the last time and the time before, in milliseconds since 1970.
        self._answers = (0, 0)

    @property
    def ring(self) -> Ring:
        """The ring, of which the broker was heard in the last seconds.

        Raises:
            LogAwayError: it was not.
        """
        if self._outage.reason:
            raise LogAwayError(self._outage.reason)
        if self._ring is None:
            raise LogAwayError("the topic was not reached yet")
        silent = time.monotonic() - self._heard
        if silent > SILENT_SECONDS:
            raise LogAwayError(f"no broker has answered for {silent:.0f} s")
        return self._ring

    async def run(self) -> None:
        """Read until cancelled."""
        backoff = Backoff(first=FIRST_RETRY_SECONDS, cap=RETRY_SECONDS, rng=random.Random())  # noqa: S311 - see Backoff
        try:
            while True:
                try:
                    async with open_consumer(self._kafka, self._topic) as (consumer, partitions):
                        await self._follow(consumer, partitions, backoff)
                except (OffsetOutOfRangeError, LogGoneError) as error:
                    # The records that come next are not there any more, or others: whoever reads on must be told.
                    self._outage.failed(explain(error))
                    self._close_ring()
                except AWAY as error:
                    self._outage.failed(explain(error))
                except Exception as error:
                    # Clients are told that the log is away, whatever this is, and it is tried again.
                    log.exception("events.unexpected_error")
                    self._outage.failed(describe_unexpected(error))
                await asyncio.sleep(backoff.next())
        finally:
            self._close_ring()

    async def _follow(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition], backoff: Backoff) -> None:
        ring = await self._place(consumer, partitions)
        self._heard = self._watched = time.monotonic()
        while True:
            fetched = await consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
            if is_reached_anew(consumer, self._connections):
                # What has come may be of another history.
                ring = await self._place(consumer, partitions)
                continue
            # No await from here on: positions and records belong together.
            items = [self._wrap(record) for records in fetched.values() for record in records]
            ends = {each.partition: position_of(consumer, each) for each in partitions}
            ring.append(items, ends, self._sure(consumer, partitions))
            silent = time.monotonic() - self._heard
            if silent > LOST_SECONDS:
                raise TimeoutError(f"no broker has answered for {LOST_SECONDS:g} s")
            if silent < SILENT_SECONDS:
                backoff.reset()
                if time.monotonic() - self._watched > WATCH_SECONDS:
                    await self._watch(consumer, ring)

    async def _place(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> Ring:
        """Go on where the ring ends, or begin another where the topic is another.

        Raises:
            LogGoneError: the log is not the ring's any more.
        """
        consumer.pause(*partitions)
        topic_id, now = await identity(consumer, self._topic), time.time()
        ends = (await bounds_of(consumer, partitions)).ends
        # Now that there are any; before the log is held against what was read over others.
        self._connections = leader_connections(consumer, partitions)
        ring = self._ring
        if ring is None or ring.topic_id != topic_id or len(ring.end) != len(partitions):
            self._close_ring()
            newest = await newest_before(consumer, dict(zip(partitions, ends, strict=True)))
            ring = Ring(topic_id, ends, int(now), newest)
        else:
            await require_same_log(consumer, partitions, ring.end, ring.newest)
        for partition in partitions:
            consumer.seek(partition, ring.end[partition.partition])
        consumer.resume(*partitions)
        self._ring = ring
        self._outage.over()
        return ring

    async def _watch(self, consumer: AIOKafkaConsumer, ring: Ring) -> None:
        """Notice that the topic is another."""
        self._watched = time.monotonic()
        if await identity(consumer, self._topic) != ring.topic_id:
            self._close_ring()
            raise ConnectionError(f"the topic {self._topic} is another now")

    def _sure(self, consumer: AIOKafkaConsumer, partitions: list[TopicPartition]) -> int | None:
        """Since when all partitions were surely read to their ends, in seconds since 1970; None while they are not.

        A request leaves after the answer before it has come. So what an answer says was so then, however long the
        answer was on its way, or this process did not run.
        """
        times = [consumer.last_poll_timestamp(each) or 0 for each in partitions]
        if max(times) != self._newest:
            self._newest, self._heard = max(times), time.monotonic()
        if min(times) != self._answers[1]:
            self._answers = self._answers[1], min(times)
        at_end = all(position_of(consumer, each) >= (consumer.last_stable_offset(each) or 0) for each in partitions)
        return self._answers[0] // 1000 if at_end else None

    def _close_ring(self) -> None:
        if self._ring is not None:
            self._ring.close()
            self._ring = None
