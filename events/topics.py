"""The topics' configuration, on which order, forgetting and the last state for ever depend.

`users.events` is compacted: the whole history of every user is there for `min.compaction.lag.ms` (7 days), the last
event of each user for ever, and an erased person's earlier events are gone `max.compaction.lag.ms` (8 days) after their
tombstone. The tombstone itself stays for `delete.retention.ms` (7 days): a consumer that was away longer may have
missed it. Only closed segments are compacted; one closes at `segment.ms` or `segment.bytes`.
"""

from typing import Final

#: The largest event there can be is far below: 16 KiB of attributes now and before, at most six bytes a character.
MAX_MESSAGE_BYTES: Final = 1024 * 1024


def users_configs(  # noqa: PLR0913 - one keyword a knob of the topic
    *,
    min_insync_replicas: int,
    min_compaction_lag_ms: int,
    max_compaction_lag_ms: int,
    delete_retention_ms: int,
    segment_ms: int,
    segment_bytes: int,
) -> dict[str, str]:
    """The configuration of the topic of user events."""
    return {
        **relay_configs(min_insync_replicas=min_insync_replicas, segment_ms=segment_ms, segment_bytes=segment_bytes),
        "min.compaction.lag.ms": str(min_compaction_lag_ms),
        "max.compaction.lag.ms": str(max_compaction_lag_ms),
        "delete.retention.ms": str(delete_retention_ms),
        "max.message.bytes": str(MAX_MESSAGE_BYTES),
    }


def relay_configs(*, min_insync_replicas: int, segment_ms: int, segment_bytes: int) -> dict[str, str]:
    """The configuration of the relay's own topic, whose newest record per relay is all that counts."""
    return {
        "cleanup.policy": "compact",
        "min.insync.replicas": str(min_insync_replicas),
        "unclean.leader.election.enable": "false",
        "segment.ms": str(segment_ms),
        "segment.bytes": str(segment_bytes),
    }
