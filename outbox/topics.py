"""The topics the relay writes, as the settings want them: created by `muster topics`, checked by relay and doctor."""

from chassis.kafka import Topic
from chassis.settings import Topics
from events import topics


def wanted_topics(settings: Topics) -> list[Topic]:
    """The events topic and the relay's own topic, which has one partition because one relay at a time writes it."""
    shared = {
        "min_insync_replicas": settings.topic_min_insync_replicas,
        "segment_ms": settings.topic_segment_ms,
        "segment_bytes": settings.topic_segment_bytes,
    }
    events = topics.users_configs(
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
