"""The histogram that takes a page at a time counts as one would by hand."""

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from outbox.relay.metrics import PageHistogram


@pytest.fixture
def histogram() -> Iterator[PageHistogram]:
    made = PageHistogram("test_seconds", "Of this test.", (1.0, 2.0))
    yield made
    REGISTRY.unregister(made)


def counted(histogram: PageHistogram) -> tuple[list[float], float]:
    (family,) = histogram.collect()
    samples = {sample.name: sample.value for sample in family.samples}
    buckets = [sample.value for sample in family.samples if sample.name.endswith("_bucket")]
    return buckets, samples["test_seconds_sum"]


@pytest.mark.parametrize(
    ("values", "buckets", "total"),
    [
        ([], [0, 0, 0], 0),
        ([1.5, 1.75, 2.0], [0, 3, 3], 5.25),
        ([0.5, 1.0, 1.5, 3.0], [2, 3, 4], 6.0),
        ([9.0, 10.0], [0, 0, 2], 19.0),
    ],
    ids=["nothing", "one bucket", "several", "beyond the last"],
)
def test_every_value_is_in_its_bucket_and_those_above(
    histogram: PageHistogram, values: list[float], buckets: list[int], total: float
) -> None:
    histogram.observe_all(values)

    assert counted(histogram) == (buckets, total)


@pytest.mark.parametrize("values", [[-0.5, -0.25], [-0.5, 0.5, 1.5]])
def test_an_event_that_seems_to_come_from_the_future_has_waited_no_time(
    histogram: PageHistogram, values: list[float]
) -> None:
    histogram.observe_all(values)

    buckets, total = counted(histogram)
    assert buckets[-1] == len(values)
    assert total == sum(value for value in values if value > 0)
