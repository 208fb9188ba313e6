"""Whoever has read something and was then away for longer than tombstones are kept may have missed one."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from aiokafka import TopicPartition

from projectors.consumer.checkpoints import Checkpoint
from projectors.consumer.resumption import CannotResumeError, LogBounds, refuse_if_too_late

NOW, KEPT = datetime(2026, 11, 30, tzinfo=UTC), timedelta(days=7)
LOG = LogBounds(UUID(int=7), start=2, end=9)


class _NothingYoung:
    """Says what a broker says where all records are older than that."""

    async def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[TopicPartition, None]:
        return dict.fromkeys(times)


async def is_too_late(position: int, *, seen: timedelta | None, begun: timedelta) -> bool:
    seen_until = None if seen is None else NOW - seen
    checkpoint = Checkpoint(position, seen_until, NOW, LOG.topic_id, None, NOW - begun)
    try:
        await refuse_if_too_late(_NothingYoung(), "users.events", {0: checkpoint}, {0: LOG}, KEPT)
    except CannotResumeError:
        return True
    return False


LONG, SHORT = KEPT + timedelta(hours=1), KEPT - timedelta(hours=1)


@pytest.mark.parametrize(
    ("position", "seen", "begun", "refused"),
    [
        (5, LONG, LONG, True),
        (5, SHORT, LONG, False),
        (9, LONG, LONG, False),
        (5, None, LONG, True),
        (5, None, SHORT, False),
        (2, None, LONG, False),
    ],
    ids=["away", "away briefly", "at the end", "never at an end", "never at an end, and new", "nothing read"],
)
async def test_what_was_read_too_long_ago_is_refused(
    position: int, seen: timedelta | None, begun: timedelta, *, refused: bool
) -> None:
    assert await is_too_late(position, seen=seen, begun=begun) == refused
