"""Who would feed a generation that nobody feeds: what is advised reaches it."""

import pytest

from read_model.catalogue import SCHEMAS
from read_model.feeding import why_unfed
from read_model.generations import Generation

SHAPE = SCHEMAS["users"].shape
RETIRE = "`muster rebuild retire users --generation 3`"


@pytest.mark.parametrize(
    ("status", "shape", "advised"),
    [
        ("serving", SHAPE, ["`muster project` runs"]),
        ("standby", SHAPE, ["`muster project` runs"]),
        ("building", SHAPE, ["`muster rebuild users` goes on", RETIRE]),
        ("building", SHAPE + 1, ["another version of the code builds it", RETIRE]),
        ("serving", SHAPE - 1, ["the version before runs", "or `muster rebuild users`"]),
        ("standby", SHAPE - 1, ["the version before runs", RETIRE]),
        ("serving", SHAPE + 1, ["the newer version runs"]),
    ],
)
def test_what_feeds_a_generation_goes_by_its_status_and_shape(status: str, shape: int, advised: list[str]) -> None:
    said = why_unfed(Generation("users", 3, shape, status), [4, 5])

    assert said.startswith("nobody has fed partitions 4, 5 for ")
    assert [words for words in advised if words not in said] == []
    assert ("`muster project`" in said) == (shape == SHAPE and status != "building")
