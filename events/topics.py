"""The topics' configuration, on which order, forgetting and the last state for ever depend.

A topic of events is compacted. It keeps the whole history of every subject for `min.compaction.lag.ms` (7 days) and the
last event of each for ever. The earlier events of an erased one are gone `max.compaction.lag.ms` (8 days) after the
tombstone. The tombstone itself stays for `delete.retention.ms` (7 days): a consumer that was away longer may have
missed it. Only closed segments are compacted; a segment closes at `segment.ms` or `segment.bytes`.
"""

from typing import Final

#: Far above the largest event of a user: 16 KiB of attributes now and before, at most six bytes a character.
MAX_MESSAGE_BYTES: Final = 1024 * 1024


def events_configs(  # noqa: PLR0913 - one keyword a setting of the topic
    *,
    min_insync_replicas: int,
    min_compaction_lag_ms: int,
    max_compaction_lag_ms: int,
    delete_retention_ms: int,
    segment_ms: int,
    segment_bytes: int,
) -> dict[str, str]:
    """The configuration of a topic of events."""
    return {
        **relay_configs(min_insync_replicas=min_insync_replicas, segment_ms=segment_ms, segment_bytes=segment_bytes),
        "min.compaction.lag.ms": str(min_compaction_lag_ms),
        "max.compaction.lag.ms": str(max_compaction_lag_ms),
        "delete.retention.ms": str(delete_retention_ms),
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }


def relay_configs(*, min_insync_replicas: int, segment_ms: int, segment_bytes: int) -> dict[str, str]:
    """The configuration of the relay's own topic, of which only the newest record of each relay counts."""
    return {
        "cleanup.policy": "compact",
        "min.insync.replicas": str(min_insync_replicas),
        "unclean.leader.election.enable": "false",
        "segment.ms": str(segment_ms),
        "segment.bytes": str(segment_bytes),
    }
