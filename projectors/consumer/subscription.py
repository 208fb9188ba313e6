"""The seam to FastStream: one consumer of a group, made, started and stopped by it (docs/decisions/0004).

The subscriber has no handler, so FastStream reads nothing itself: it gives us its consumer, and the loop of a feed
(projectors/consumer/loop.py) reads, by `fetch`: at once while somebody waits for the first record, more at a time while
they keep coming.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from chassis.kafka.client import REQUEST_SECONDS, client_arguments
from chassis.kafka.refusals import start_client
from chassis.lifecycle import wait_at_most
from chassis.settings import Kafka

Fetched = dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]

#: The broker holds an answer back for so long while there is nothing new. A quiet partition tells us of itself as
#: often, and `As-Of` is as fine; a fetch covers every partition of a broker, so two a second cost nothing.
FETCH_WAIT_MS: Final = 500
#: The broker answers as soon as it has this much for us while a projection has patience: a full batch is more.
PATIENT_BYTES: Final = 64 * 1024
#: Unpacking so many takes a millisecond, in which nothing else happens here; a batch is many times that.
UNPACKED_AT_ONCE: Final = 250
#: A member that was killed is missed after this long, and its partitions go to another: the least that brokers allow by
#: default (group.min.session.timeout.ms).
SESSION_TIMEOUT_MS: Final = 6_000
#: A member learns at its heartbeat that another has come or gone: for so long, and little more, nobody reads the
#: partitions of one that left. aiokafka's 3 s would be felt at every restart.
HEARTBEAT_INTERVAL_MS: Final = 500
#: A loop that retries through an outage of the database is not dead; it keeps its partitions this long.
MAX_POLL_INTERVAL_MS: Final = 300_000
#: A topic that is made again is noticed within this, and one that is gone; aiokafka's 5 minutes are for clusters whose
#: members do not change.
METADATA_MAX_AGE_MS: Final = 5_000
#: A consumer starts in a fraction of this, or its broker is away.
CONSUMER_START_SECONDS: Final = 20.0
#: Leaving the group is one request, which a broker that hangs does not answer within its REQUEST_SECONDS.
CONSUMER_STOP_SECONDS: Final = 20.0
CUT_SECONDS: Final = 5.0


class Assignments(Protocol):
    """Is told of every change of partitions. The consumer's own task calls it, at any time."""

    def revoked(self) -> None:
        """The partitions are ours no longer."""

    def assigned(self, partitions: set[TopicPartition]) -> None:
        """These partitions are ours; nothing of theirs has been returned yet, and nothing is until they are resumed."""


class Subscription(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """One consumer of `topic` in `group`; nothing is opened before `start`."""

    def __init__(self, kafka: Kafka, *, topic: str, group: str, assignments: Assignments) -> None:
        """Tell FastStream what correctness depends on."""
        self._assignments = assignments
        self._arguments = client_arguments(kafka)
        self._broker = KafkaBroker(
            kafka.kafka_bootstrap_servers.split(","),
            security=_security(self._arguments),
            request_timeout_ms=int(REQUEST_SECONDS * 1000),
            client_id=group,
            metadata_max_age_ms=METADATA_MAX_AGE_MS,
            consumer_only=True,
            allow_auto_create_topics=False,
            logger=None,
        )
        self._subscriber = self._broker.subscriber(
            topic,
            group_id=group,
            # Positions are in the query database: nothing may be committed to Kafka by itself.
            ack_policy=AckPolicy.MANUAL,
            # The loop alone says where to go on where a position is not on the log.
            auto_offset_reset="none",
            isolation_level="read_committed",
            listener=self,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            session_timeout_ms=SESSION_TIMEOUT_MS,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
        )

    @property
    def consumer(self) -> AIOKafkaConsumer:
        """The consumer, from the start on."""
        assert self._subscriber.consumer is not None
        return self._subscriber.consumer

    async def start(self) -> AIOKafkaConsumer:
        """Connect and join the group.

        Raises:
            KafkaRefusedError: the brokers do not let us in; the rest as below.
            KafkaError, OSError, TimeoutError: no broker answered; the subscription is to be stopped all the same.
        """
        await start_client(self._broker, self._arguments, CONSUMER_START_SECONDS)
        return self.consumer

    async def stop(self) -> None:
        """Leave the group and close the connections, also where the start failed.

        Raises:
            TimeoutError: that took more than CONSUMER_STOP_SECONDS, as with a broker that hangs; the connections were
                cut.
        """
        try:
            async with asyncio.timeout(CONSUMER_STOP_SECONDS):
                await self._broker.stop()
        except TimeoutError:
            if self._subscriber.consumer is not None:
                # Not public: its own stop() returns at once the second time, and leaves the connections open.
                await wait_at_most(self.consumer._client.close(), CUT_SECONDS)  # noqa: SLF001 - as said
            raise

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Pass it on; assignment is eager, so these are all of them."""
        del revoked
        self._assignments.revoked()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        """Pass it on, but pause them before anything is awaited: aiokafka may fetch before it calls this."""
        self.consumer.pause(*assigned)
        self._assignments.assigned(assigned)


async def fetch(consumer: AIOKafkaConsumer, wait_ms: int, limit: int) -> Fetched:
    """Wait for records and take what has come, `limit` at most; gives way while it unpacks them."""
    fetched: Fetched = {}
    missing, found = limit, await consumer.getmany(timeout_ms=wait_ms, max_records=min(limit, UNPACKED_AT_ONCE))
    while found:
        for partition, records in found.items():
            fetched.setdefault(partition, []).extend(records)
            missing -= len(records)
        if missing <= 0 or sum(map(len, found.values())) < UNPACKED_AT_ONCE:
            break
        await asyncio.sleep(0)
        found = await consumer.getmany(timeout_ms=0, max_records=min(missing, UNPACKED_AT_ONCE))
    return fetched


class Patience:
    """The time for which the broker may collect records for one feed."""

    def __init__(self, milliseconds: int) -> None:
        """No more than this, whatever comes."""
        self._milliseconds = milliseconds
        #: When the newest records came, by the monotonic clock in seconds.
        self._came = 0.0

    def adapt(self, consumer: AIOKafkaConsumer, now: float, *, came: bool, replaying: bool) -> None:
        """Wait for more than one record while they keep coming; not for the first, and not in a replay."""
        patient = came and now - self._came < 2 * self._milliseconds / 1000 and not replaying
        _set_fetch_wait(consumer, self._milliseconds if patient else 0)
        if came:
            self._came = now


def _set_fetch_wait(consumer: AIOKafkaConsumer, milliseconds: int) -> None:
    """Let the broker collect records for so long from the next fetch on; with 0 it answers at the first one."""
    # Not public: aiokafka can be told only once, when it is made. Without this, each partition of a transaction would
    # be an answer of its own, or every few milliseconds a request would find nothing.
    fetcher = consumer._fetcher  # noqa: SLF001 - as said
    fetcher._fetch_max_wait_ms = milliseconds or FETCH_WAIT_MS  # noqa: SLF001 - as said
    fetcher._fetch_min_bytes = PATIENT_BYTES if milliseconds else 1  # noqa: SLF001 - as said


def _security(arguments: Mapping[str, Any]) -> BaseSecurity:
    """The settings in FastStream's terms; what they mean is decided in chassis/kafka/client.py alone."""
    protocol: str = arguments["security_protocol"]
    context, use_ssl = arguments.get("ssl_context"), protocol.endswith("SSL")
    if not protocol.startswith("SASL"):
        return BaseSecurity(ssl_context=context, use_ssl=use_ssl)
    security_of = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
    return security_of[arguments["sasl_mechanism"]](
        username=arguments["sasl_plain_username"] or "",
        password=arguments["sasl_plain_password"] or "",
        ssl_context=context,
        use_ssl=use_ssl,
    )
