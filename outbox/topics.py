"""The two topics that a relay writes: `muster topics` creates them, the relay and `muster doctor` check them.

Order, forgetting and the last state for ever depend on their configuration. A topic of events is compacted. It keeps
the whole history of every subject for `min.compaction.lag.ms` (7 days) and the last event of each for ever. The earlier
events of an erased one are gone `max.compaction.lag.ms` (8 days) after the tombstone. The tombstone itself stays for
`delete.retention.ms` (7 days): a consumer that was away longer may have missed it. Only closed segments are compacted;
a segment closes at `segment.ms` or `segment.bytes`.
"""

from __future__ import annotations

from chassis.kafka.client import Topic, admin, partition_counts, refuse_other_partition_counts, topic_configs
from chassis.settings import Kafka, Topics
from events.topics import MAX_MESSAGE_BYTES


class TopicsNotReadyError(Exception):
    """A topic is missing, or too small for the largest event; the relay waits until `muster topics` mends it."""


class TopicSettings(Kafka, Topics):
    """The settings that a check of the topics needs."""


def wanted_topics(settings: Topics) -> list[Topic]:
    """The events topic, and the relay's own topic, of which only the newest record of each relay counts."""
    relay = {
        "cleanup.policy": "compact",
        # The broker's time and not the writer's: how old a record is decides what is cleaned, and what was missed.
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(settings.topic_min_insync_replicas),
        "unclean.leader.election.enable": "false",
        "segment.ms": str(settings.topic_segment_ms),
        "segment.bytes": str(settings.topic_segment_bytes),
    }
    events = {
        **relay,
        "min.compaction.lag.ms": str(settings.topic_min_compaction_lag_ms),
        "max.compaction.lag.ms": str(settings.topic_max_compaction_lag_ms),
        "delete.retention.ms": str(settings.topic_delete_retention_ms),
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }
    factor = settings.topic_replication_factor
    return [
        Topic(settings.events_topic, settings.topic_partitions, events, factor),
        # One partition, because one relay at a time writes it.
        Topic(settings.relay_topic, 1, relay, factor),
    ]


async def check_topics(settings: TopicSettings) -> None:
    """Check that both topics are there as the relay needs them.

    Raises:
        TopicMismatchError: the number of partitions differs, which nobody may change.
        TopicsNotReadyError: one is missing, or the largest possible event is too large for it.
        KafkaError, OSError, TimeoutError: no broker answers.
    """
    wanted = wanted_topics(settings)
    async with admin(settings) as client:
        existing = await partition_counts(client, [topic.name for topic in wanted])
        missing = [topic.name for topic in wanted if topic.name not in existing]
        if missing:
            raise TopicsNotReadyError(f"there is no topic {' and no topic '.join(missing)}: run `muster topics`")
        refuse_other_partition_counts(wanted, existing)
        configs = await topic_configs(client, [settings.events_topic])
    taken = int(configs[settings.events_topic]["max.message.bytes"])
    if taken < MAX_MESSAGE_BYTES:
        raise TopicsNotReadyError(
            f"{settings.events_topic} takes messages of {taken} bytes, the largest event can have"
            f" {MAX_MESSAGE_BYTES}: run `muster topics`"
        )
