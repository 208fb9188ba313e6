"""The metrics of a projectors process, for `/metrics`."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_LABELS: Final = ("projection", "generation")

APPLIED: Final = Counter("muster_projector_records", "Records taken from the topic, parked ones included.", _LABELS)
PARKED: Final = Counter("muster_projector_parked_records", "Records parked.", _LABELS)
PARKED_NOW: Final = Gauge("muster_projector_parked_now", "Records that are parked now.", _LABELS)
FOREIGN_NOW: Final = Gauge(
    "muster_projector_foreign_now",
    "Suspicious records that are parked, and all only counted.",
    (*_LABELS, "kept"),
)
RETRIES: Final = Counter("muster_projector_retries", "Attempts that failed for want of the database.", _LABELS)
RESTARTS: Final = Counter("muster_projector_consumer_restarts", "Consumers discarded and made anew.", _LABELS)
#: Bounds around what a batch takes: a millisecond for one record, a second for thousands of a rebuild.
BATCH_SECONDS: Final = Histogram(
    "muster_projector_batch_seconds",
    "From records in hand to rows committed.",
    _LABELS,
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
)
FEED_STATE: Final = Gauge(
    "muster_feed_state", "1 for what becomes of the generation's events, 0 for what does not.", (*_LABELS, "state")
)
LAG_RECORDS: Final = Gauge(
    "muster_projector_lag_records", "Positions between the checkpoint and the end.", (*_LABELS, "partition")
)
LAG_SECONDS: Final = Gauge(
    "muster_projector_lag_seconds", "Age of the time up to which everything was applied.", (*_LABELS, "partition")
)


def begin(labels: tuple[str, str]) -> None:
    """Show zeros for a projection's generation: a rate sees no step to the first one of a series that was not there."""
    for counted in (APPLIED, PARKED, RETRIES, RESTARTS):
        counted.labels(*labels)
