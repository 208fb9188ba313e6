"""The seam to FastStream that is not public: what we rely on is still there (the version is pinned because of it)."""

import gc
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import SubscriptionState
from faststream import AckPolicy
from faststream.kafka.subscriber.usecase import BatchSubscriber

from chassis.settings import Kafka
from projectors.consumer.subscription import FETCH_WAIT_MS, PATIENT_BYTES, make_broker, set_patience

SETTINGS = Kafka.model_construct(kafka_bootstrap_servers="127.0.0.1:9092")


@dataclass
class Recorder:
    """A poller that notes what it is asked."""

    answer: tuple[Any, ...] = ()
    handled: list[Any] = field(default_factory=list)
    notes: list[Any] = field(default_factory=list)

    async def poll(self, consumer: Any) -> tuple[Any, ...]:
        self.notes.append(("poll", consumer))
        return self.answer

    async def handle(self, consumer: Any, records: Sequence[Any]) -> None:
        self.handled.append((consumer, records))

    def revoked(self) -> None:
        self.notes.append("revoked")

    def assigned(self, consumer: Any, partitions: set[TopicPartition]) -> None:
        self.notes.append(("assigned", consumer, partitions))


@dataclass
class Consumer:
    """Stands for aiokafka's, which a unit test cannot have."""

    paused: list[TopicPartition] = field(default_factory=list)

    def pause(self, *partitions: TopicPartition) -> None:
        self.paused += partitions


def subscriber_of(recorder: Recorder) -> Any:
    broker = make_broker(SETTINGS, topic="t", group="g", max_records=7, poller=recorder)
    [subscriber] = broker.subscribers
    return subscriber


def a_record() -> ConsumerRecord[bytes, bytes]:
    """One whose headers would trip FastStream's own parser."""
    return ConsumerRecord("t", 0, 5, 0, 0, b"k", b"{", None, 1, 1, (("ce_id", b"\xff"),))


async def test_polls_go_to_the_poller_instead_of_faststreams_own() -> None:
    recorder, consumer = Recorder(answer=("x",)), Consumer()
    subscriber = subscriber_of(recorder)
    assert isinstance(subscriber, BatchSubscriber)
    assert await subscriber.get_msg(consumer) == ("x",)
    assert recorder.notes == [("poll", consumer)]


async def test_a_batch_reaches_the_handler_untouched() -> None:
    recorder, consumer = Recorder(), Consumer()
    broker = make_broker(SETTINGS, topic="t", group="g", max_records=7, poller=recorder)
    await broker.connect()
    subscriber: Any = next(iter(broker.subscribers))
    subscriber.consumer = consumer
    subscriber._build_fastdepends_model()
    records = (a_record(), a_record())
    await subscriber.process_message(records)
    assert recorder.handled == [(consumer, records)]


async def test_an_assignment_is_paused_before_it_is_told() -> None:
    recorder, consumer = Recorder(), Consumer()
    subscriber = subscriber_of(recorder)
    subscriber.consumer = consumer
    partitions = {TopicPartition("t", 0)}
    # Run without a loop: nothing may be awaited before the pause.
    coroutine = subscriber._listener.on_partitions_assigned(partitions)
    with suppress(StopIteration):
        coroutine.send(None)
    assert consumer.paused == [TopicPartition("t", 0)]
    assert recorder.notes == [("assigned", consumer, partitions)]


async def test_a_batch_that_was_handled_is_freed_without_the_collector() -> None:
    """The collector is kept off the projectors' process: a cycle would keep megabytes of records a batch."""
    broker = make_broker(SETTINGS, topic="t", group="g", max_records=7, poller=Recorder())
    await broker.connect()
    subscriber: Any = next(iter(broker.subscribers))
    subscriber.consumer = Consumer()
    subscriber._build_fastdepends_model()
    recorder = subscriber._listener.poller
    gc.disable()
    try:
        records: tuple[Any, ...] = (a_record(),)
        freed = weakref.ref(records[0])
        await subscriber.process_message(records)
        recorder.handled.clear()
        del records
        assert freed() is None
    finally:
        gc.enable()


def test_the_consumer_is_told_what_correctness_depends_on() -> None:
    subscriber = subscriber_of(Recorder())
    arguments = subscriber._connection_args
    assert subscriber.ack_policy is AckPolicy.MANUAL
    assert arguments["auto_offset_reset"] == "earliest"
    assert arguments["isolation_level"] == "read_committed"
    assert arguments["enable_auto_commit"] is False
    assert (subscriber.group_id, subscriber.max_records) == ("g", 7)


async def test_patience_is_what_the_next_fetch_asks_for() -> None:
    partition, subscription = TopicPartition("t", 0), SubscriptionState()
    subscription.assign_from_user({partition})
    assignment = subscription.subscription.assignment
    assignment.state_value(partition).seek(0)
    fetcher = Fetcher(AIOKafkaClient(bootstrap_servers="127.0.0.1:9"), subscription)
    fetcher._preferred_read_replica[partition] = (1, float("inf"))
    fetcher._client.cluster.broker_metadata = lambda _: "it"
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:9")
    assert consumer._fetcher is None
    consumer._fetcher = fetcher
    try:
        for milliseconds, wanted in ((30, (30, PATIENT_BYTES)), (0, (FETCH_WAIT_MS, 1))):
            set_patience(consumer, milliseconds)
            [(_, request)], *_ = fetcher._get_actions_per_node(assignment)
            assert (request._max_wait_ms, request._min_bytes) == wanted
    finally:
        await consumer.stop()
