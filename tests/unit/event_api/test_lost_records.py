"""A position is refused where the topic does not have everything that comes after it."""

from datetime import timedelta

import pytest

from event_api.log.continuity import Bounds, LogGoneError, refuse_lost
from event_api.settings import EventApiSettings

BOUNDS = Bounds(starts=(3, 0), ends=(9, 5))


@pytest.mark.parametrize("offsets", [(3, 0), (9, 5), (4, 2)])
def test_a_position_on_the_topic_is_good(offsets: tuple[int, ...]) -> None:
    refuse_lost(offsets, BOUNDS)


@pytest.mark.parametrize(("offsets", "said"), [((2, 0), "begins after"), ((3, 6), "ends before")])
def test_records_before_the_beginning_are_gone_and_a_shorter_topic_is_another(
    offsets: tuple[int, ...], said: str
) -> None:
    with pytest.raises(LogGoneError, match=said):
        refuse_lost(offsets, BOUNDS)


@pytest.mark.parametrize(("superseded", "tombstones"), [(1000, 5000), (5000, 1000)])
def test_all_is_kept_for_as_long_as_superseded_records_and_tombstones_both_are(
    superseded: int, tombstones: int
) -> None:
    settings = EventApiSettings.model_construct(
        topic_min_compaction_lag_ms=superseded, topic_delete_retention_ms=tombstones
    )

    assert settings.all_kept == timedelta(seconds=1)
