"""The seam to FastStream: a batch subscriber of one consumer group, as our rules need it (docs/decisions/0004).

FastStream swallows what a handler raises and then reads on, its acknowledgement policies lose or spin, its parser trips
over headers that are no UTF-8, and after an empty poll it sleeps before it looks again. So: manual acknowledgement, a
parser that touches nothing, a handler that never raises, and a poll of our own in place of `get_msg`, which is not
public: the dependency is pinned to its minor version, and tests/unit/projectors/test_subscription.py guards the seam.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.kafka.message import KafkaAckableMessage
from faststream.kafka.subscriber.usecase import BatchSubscriber
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from chassis.kafka.client import REQUEST_SECONDS, client_arguments
from chassis.settings import Kafka

Records = tuple[ConsumerRecord[bytes, bytes], ...]
Fetched = dict[TopicPartition, list[ConsumerRecord[bytes, bytes]]]

#: How long the broker holds an answer back while there is nothing new. Also how often a quiet partition tells us so,
#: and thus how fine `As-Of` is; a fetch covers every partition of a broker, so two a second cost nothing.
FETCH_WAIT_MS: Final = 500
#: While a projection has patience, the broker answers as soon as it has this much for us: a full batch is more.
PATIENT_BYTES: Final = 64 * 1024
#: Unpacking so many takes a millisecond, in which nothing else happens here; a batch is many times that.
UNPACKED_AT_ONCE: Final = 250
#: A member that was killed is missed after this long, and its partitions go to another: the least that brokers allow by
#: default (group.min.session.timeout.ms).
SESSION_TIMEOUT_MS: Final = 6_000
#: A member learns at its heartbeat that another has come or gone: so long, and little more, nobody reads the partitions
#: of one that left. aiokafka's 3 s would be felt at every restart.
HEARTBEAT_INTERVAL_MS: Final = 500
#: A handler that retries through an outage of the database is not dead; it keeps its partitions this long.
MAX_POLL_INTERVAL_MS: Final = 300_000
#: In-flight work finishes within this long when a consumer is stopped.
GRACEFUL_SECONDS: Final = 10.0
#: Leaving the group is one request, which a broker that hangs does not answer within its REQUEST_SECONDS.
STOP_SECONDS: Final = 20.0
CUT_SECONDS: Final = 5.0


class Poller(Protocol):
    """What a subscription drives; polls and batches never at once, assignments at any time."""

    async def poll(self, consumer: AIOKafkaConsumer) -> Records:
        """Wait a bounded time for records; never raises."""

    async def handle(self, consumer: AIOKafkaConsumer, records: Records) -> None:
        """Apply what `poll` returned; never raises."""

    def revoked(self) -> None:
        """The partitions are ours no longer; called by the consumer's own task at any time."""

    def assigned(self, consumer: AIOKafkaConsumer, partitions: set[TopicPartition]) -> None:
        """These partitions are ours; called by the consumer's own task, before anything of theirs is returned."""


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Passes assignments on, and pauses them first: aiokafka may fetch before it awaits the listener."""

    def __init__(self, poller: Poller) -> None:
        self.poller = poller
        #: Set once there is one: it makes the consumer that this listener is about.
        self.subscriber: BatchSubscriber | None = None

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        del revoked  # assignment is eager: all of them
        self.poller.revoked()

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        assert self.subscriber is not None
        consumer = self.subscriber.consumer
        assert consumer is not None
        consumer.pause(*assigned)
        self.poller.assigned(consumer, assigned)


class _PromptSubscriber(BatchSubscriber):
    """A batch subscriber whose poll is ours."""

    __slots__ = ()

    async def get_msg(self, consumer: AIOKafkaConsumer) -> Records:
        assert isinstance(self._listener, _Listener)
        return await self._listener.poller.poll(consumer)


def make_broker(settings: Kafka, *, topic: str, group: str, max_records: int, poller: Poller) -> KafkaBroker:
    """A broker with one subscriber of `topic` in `group`, not started; what it reads goes to `poller`."""
    broker = KafkaBroker(
        settings.kafka_bootstrap_servers.split(","),
        security=_security(settings),
        request_timeout_ms=int(REQUEST_SECONDS * 1000),
        client_id=group,
        consumer_only=True,
        allow_auto_create_topics=False,
        graceful_timeout=GRACEFUL_SECONDS,
        apply_types=False,
        logger=None,
    )
    listener = _Listener(poller)
    subscriber = broker.subscriber(
        topic,
        batch=True,
        group_id=group,
        ack_policy=AckPolicy.MANUAL,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        listener=listener,
        max_records=max_records,
        fetch_max_wait_ms=FETCH_WAIT_MS,
        session_timeout_ms=SESSION_TIMEOUT_MS,
        heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
        max_poll_interval_ms=MAX_POLL_INTERVAL_MS,
    )
    assert type(subscriber) is BatchSubscriber
    subscriber.__class__ = _PromptSubscriber
    listener.subscriber = subscriber

    async def parse(records: Records) -> KafkaAckableMessage:
        return KafkaAckableMessage(
            body=b"",
            raw_message=records,
            headers={},
            batch_headers=[],
            reply_to="",
            content_type=None,
            message_id=f"{records[0].partition}-{records[0].offset}",
            correlation_id=None,
            path={},
            consumer=subscriber.consumer,
        )

    async def unpack(message: KafkaAckableMessage) -> Records:
        # Not the message: it keeps what this returns, and would be a cycle with all of its records in it.
        records: Records = message.raw_message
        return records

    @subscriber(parser=parse, decoder=unpack)
    async def handle(records: Records) -> None:
        assert subscriber.consumer is not None
        await poller.handle(subscriber.consumer, records)

    return broker


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


def set_patience(consumer: AIOKafkaConsumer, milliseconds: int) -> None:
    """From the next fetch on, let the broker collect records for so long; with 0 it answers at the first one."""
    # Not public: aiokafka can be told only once, and one answer for each partition of a transaction, or a request every
    # few milliseconds while there is nothing, would be what it costs.
    fetcher = consumer._fetcher  # noqa: SLF001 - as said
    fetcher._fetch_max_wait_ms = milliseconds or FETCH_WAIT_MS  # noqa: SLF001 - as said
    fetcher._fetch_min_bytes = PATIENT_BYTES if milliseconds else 1  # noqa: SLF001 - as said


async def stop_broker(broker: KafkaBroker) -> None:
    """Stop a broker, also one that did not start: finish the batch in hand, leave the group, close connections.

    Raises:
        TimeoutError: that took more than STOP_SECONDS, as with a broker that hangs; the connections were cut.
    """
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await broker.stop()
    except TimeoutError:
        for subscriber in broker.subscribers:
            consumer = getattr(subscriber, "consumer", None)
            if consumer is not None:
                # Not public: its own stop() returns at once the second time, and leaves the connections open.
                await asyncio.wait_for(consumer._client.close(), CUT_SECONDS)  # noqa: SLF001 - as said
        raise


def _security(settings: Kafka) -> BaseSecurity:
    """The settings in FastStream's terms; what they mean is decided in chassis/kafka/client.py alone."""
    arguments = client_arguments(settings)
    protocol: str = arguments["security_protocol"]
    context, use_ssl = arguments.get("ssl_context"), protocol.endswith("SSL")
    if not protocol.startswith("SASL"):
        return BaseSecurity(ssl_context=context, use_ssl=use_ssl)
    kind = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}
    return kind[arguments["sasl_mechanism"]](
        username=arguments["sasl_plain_username"] or "",
        password=arguments["sasl_plain_password"] or "",
        ssl_context=context,
        use_ssl=use_ssl,
    )
