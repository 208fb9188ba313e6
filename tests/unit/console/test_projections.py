"""When the page of projections looks again by itself: until what serves is fed."""

import pytest

from console.projections.page import GenerationRow, Shown
from projectors.operations.lag import GenerationLag
from read_model.feeding import FeedState
from read_model.generations import Generation


def row(status: str, state: FeedState | None) -> GenerationRow:
    lag = None if state is None else GenerationLag("users", 1, 1, status, state, "", [], None)
    return GenerationRow(Generation("users", 1, 1, status), status, lag, "", "")


@pytest.mark.parametrize(
    ("rows", "waits"),
    [
        ([row("serving", FeedState.UNASSIGNED)], True),
        ([row("standby", FeedState.FED), row("serving", FeedState.UNASSIGNED)], True),
        ([row("serving", FeedState.FED)], False),
        ([row("serving", None)], False),
        # It may have caught up, and waits for a person to switch.
        ([row("serving", FeedState.FED), row("building", FeedState.UNASSIGNED)], False),
        ([row("standby", FeedState.UNASSIGNED), row("serving", FeedState.FED)], False),
    ],
)
def test_a_page_looks_again_until_what_serves_is_fed(rows: list[GenerationRow], waits: bool) -> None:
    assert Shown("users", rows, None).waits_to_be_fed is waits
