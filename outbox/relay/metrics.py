"""The relay's metrics, for `/metrics` and `muster lag`."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import REGISTRY, Counter, Gauge
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector


class PageHistogram(Collector):
    """A histogram that takes a page of values at once: prometheus_client's takes a lock and two calls for each."""

    def __init__(self, name: str, documentation: str, bounds: Sequence[float]) -> None:
        """Register under `name`; `bounds` are the buckets' upper bounds in seconds, ascending."""
        self._name = name
        self._documentation = documentation
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0
        REGISTRY.register(self)

    def observe_all(self, values: Sequence[float]) -> None:
        """Count every value; a negative one, from clocks that disagree, counts as zero."""
        if not values:
            return
        bounds, counts = self._bounds, self._counts
        first, last = bisect_left(bounds, min(values)), bisect_left(bounds, max(values))
        if first == last:
            # Usual for a page of a backlog: all its events have waited about as long.
            counts[first] += len(values)
        else:
            for value in values:
                counts[bisect_left(bounds, value)] += 1
        self._sum += sum(values) if first else sum(value for value in values if value > 0)

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """Give the histogram to the registry."""
        totals = list(accumulate(self._counts))
        labels = [*map(str, self._bounds), "+Inf"]
        buckets = list(zip(labels, map(float, totals), strict=True))
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum)


BACKLOG_EVENTS = Gauge(
    "muster_outbox_backlog_events",
    "Events to publish, without those that wait for one set aside; an estimate above 10,000; 0 on standby.",
)
OLDEST_SECONDS = Gauge(
    "muster_outbox_oldest_unpublished_seconds", "Age of the oldest event not yet published; 0 for none, and on standby."
)
PUBLISHED = Counter("muster_outbox_published_total", "Events published by this process.")
#: Buckets in seconds, from the best that a trickle can reach to a long outage.
PUBLISH_LATENCY = PageHistogram(
    "muster_outbox_publish_seconds",
    "From the command's transaction to the event's commit on Kafka.",
    (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0),
)
SET_ASIDE = Gauge("muster_outbox_set_aside", "Rows that are set aside; 0 on standby.")
BYTES = Gauge(
    "muster_outbox_bytes", "The outbox on disk, with its indexes and the room of rows that are gone; 0 on standby."
)
LEADING = Gauge("muster_outbox_leader", "1 while this process publishes, 0 on standby.")
HELD = Gauge("muster_outbox_held", "1 while everything waits for a row that cannot be published.")
PRODUCER_RECREATED = Counter("muster_outbox_producer_recreated_total", "Producers discarded after an error.")
BELOW_FLOOR = Counter("muster_outbox_below_floor_total", "Rows found below the floor; any is a bug.")
