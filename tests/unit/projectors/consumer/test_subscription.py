"""The seam to FastStream: what we rely on is still there, and the consumer is told what correctness depends on."""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from aiokafka import TopicPartition
from faststream import AckPolicy

from chassis.settings import Kafka
from projectors.consumer.subscription import Subscription

SETTINGS = Kafka.model_construct(kafka_bootstrap_servers="127.0.0.1:9092")
PARTITIONS = {TopicPartition("t", 0)}


@dataclass
class Recorder:
    """Notes in one list what the consumer and whoever is told of assignments are asked, in order."""

    notes: list[Any] = field(default_factory=list)

    def revoked(self) -> None:
        self.notes.append("revoked")

    def assigned(self, partitions: set[TopicPartition]) -> None:
        self.notes.append(("assigned", partitions))

    def pause(self, *partitions: TopicPartition) -> None:
        self.notes.append(("pause", set(partitions)))


def subscription_of(recorder: Recorder) -> tuple[Subscription, Any]:
    subscription = Subscription(SETTINGS, topic="t", group="g", assignments=recorder)
    [subscriber] = subscription._broker.subscribers
    return subscription, subscriber


async def test_an_assignment_is_paused_before_it_is_told() -> None:
    recorder = Recorder()
    subscription, subscriber = subscription_of(recorder)
    subscriber.consumer = recorder
    # Run without a loop: nothing may be awaited before the pause.
    coroutine = subscriber._listener.on_partitions_assigned(PARTITIONS)
    with suppress(StopIteration):
        coroutine.send(None)
    assert recorder.notes == [("pause", PARTITIONS), ("assigned", PARTITIONS)]
    assert subscription.consumer is recorder


async def test_a_revocation_is_told() -> None:
    recorder = Recorder()
    _, subscriber = subscription_of(recorder)
    await subscriber._listener.on_partitions_revoked(PARTITIONS)
    assert recorder.notes == ["revoked"]


def test_the_consumer_is_told_what_correctness_depends_on() -> None:
    _, subscriber = subscription_of(Recorder())
    arguments = subscriber._connection_args
    assert subscriber.ack_policy is AckPolicy.MANUAL
    assert arguments["auto_offset_reset"] == "none", "nobody but the loop says where to go on"
    assert arguments["isolation_level"] == "read_committed"
    assert arguments["enable_auto_commit"] is False
    assert subscriber.group_id == "g"


def test_faststream_reads_nothing_itself() -> None:
    _, subscriber = subscription_of(Recorder())
    assert list(subscriber.calls) == []
