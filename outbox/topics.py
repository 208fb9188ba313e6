"""The topics the relay writes, as the settings want them: created by `muster topics`, checked by relay and doctor."""

from __future__ import annotations

from chassis.kafka.client import Topic, admin, partition_counts, refuse_other_partition_counts, topic_configs
from chassis.settings import Kafka, Topics
from events import topics


class TopicsNotReadyError(Exception):
    """A topic is missing or takes too little; `muster topics` mends it, and the relay waits until somebody has."""


class TopicSettings(Kafka, Topics):
    """What it takes to look at the topics."""


def wanted_topics(settings: Topics) -> list[Topic]:
    """The events topic and the relay's own topic, which has one partition because one relay at a time writes it."""
    shared = {
        "min_insync_replicas": settings.topic_min_insync_replicas,
        "segment_ms": settings.topic_segment_ms,
        "segment_bytes": settings.topic_segment_bytes,
    }
    events = topics.events_configs(
        **shared,
        min_compaction_lag_ms=settings.topic_min_compaction_lag_ms,
        max_compaction_lag_ms=settings.topic_max_compaction_lag_ms,
        delete_retention_ms=settings.topic_delete_retention_ms,
    )
    factor = settings.topic_replication_factor
    return [
        Topic(settings.events_topic, settings.topic_partitions, events, factor),
        Topic(settings.relay_topic, 1, topics.relay_configs(**shared), factor),
    ]


async def check_topics(settings: TopicSettings) -> None:
    """See that both topics are there as the relay needs them.

    Raises:
        TopicMismatchError: the number of partitions differs, which nobody may change.
        TopicsNotReadyError: one is missing, or takes smaller messages than the largest event there can be.
        KafkaError, OSError, TimeoutError: nobody answers.
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
    if taken < topics.MAX_MESSAGE_BYTES:
        raise TopicsNotReadyError(
            f"{settings.events_topic} takes messages of {taken} bytes, the largest event can have"
            f" {topics.MAX_MESSAGE_BYTES}: run `muster topics`"
        )
