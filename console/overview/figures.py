"""The counts and measures of each part, out of one observation; None where one is not known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from console.asking import Failed
from console.overview.observation import (
    APPLIED,
    BATCH_SECONDS,
    PUBLISH_SECONDS,
    PUBLISHED,
    REQUEST_SECONDS,
    SENT,
    STREAMS,
    Figures,
    Observation,
)
from console.overview.scrape import Buckets

#: A figure of the moment of a look.
Figure: TypeAlias = Callable[[Observation], float | None]
#: What each process has counted since it started, by its URL: what is counted anew is not that of another process.
Count: TypeAlias = Callable[[Observation], Mapping[str, float] | None]
Histogram: TypeAlias = Callable[[Observation], Mapping[str, Buckets] | None]


def commands(seen: Observation) -> Mapping[str, float] | None:
    """Answers of the command API."""
    return _answers(seen.command_figures)


def queries(seen: Observation) -> Mapping[str, float] | None:
    """Answers of the query API."""
    return _answers(seen.query_figures)


def appended(seen: Observation) -> Mapping[str, float] | None:
    """Events that were committed, as far as the leading relay's count and its backlog tell."""
    counts = published(seen)
    if counts is None or isinstance(seen.outbox, Failed):
        return None
    return {url: count + seen.outbox.backlog.events for url, count in counts.items()}


def published(seen: Observation) -> Mapping[str, float] | None:
    """Events that the leading relay has published."""
    return _counts(seen.relay_figures, PUBLISHED)


def applied(seen: Observation) -> Mapping[str, float] | None:
    """Records that the generations that serve have taken, on average; they all take the same."""
    if isinstance(seen.projector_figures, Failed) or not seen.serving:
        return None
    keys = [(APPLIED, each.projection, each.number) for each in seen.serving]
    return {
        url: sum(figures.by_generation.get(key, 0.0) for key in keys) / len(keys)
        for url, figures in seen.projector_figures.items()
    }


def sent(seen: Observation) -> Mapping[str, float] | None:
    """Events that the event API has sent, to all clients together."""
    return _counts(seen.event_figures, SENT)


def clients(seen: Observation) -> float | None:
    """Clients that follow the event API."""
    known = _counts(seen.event_figures, STREAMS)
    return None if known is None else sum(known.values())


def oldest(seen: Observation) -> float | None:
    """Seconds for which the oldest event has waited to be published; 0 where none waits."""
    return None if isinstance(seen.outbox, Failed) else seen.outbox.backlog.oldest_seconds


def unread(seen: Observation) -> float | None:
    """Records that the slowest of the generations that serve has not read."""
    return _largest([each.records for each in seen.serving])


def behind(seen: Observation) -> float | None:
    """Seconds that the slowest of the generations that serve is behind."""
    return _largest([each.seconds for each in seen.serving])


def oldest_unread(seen: Observation) -> float | None:
    """Seconds that the slowest is behind in a partition of which it has not read all; 0 where all is read."""
    if unread(seen) is None:
        return None
    parts = [part for each in seen.serving for part in each.partitions if part.records]
    return _largest([part.seconds for part in parts]) if parts else 0.0


def _largest(values: Sequence[float | None]) -> float | None:
    """The largest; None where there is none, or one of them is not known."""
    known = [value for value in values if value is not None]
    return max(known) if known and len(known) == len(values) else None


def kafka_seconds(seen: Observation) -> float | None:
    """Seconds that the brokers took to say where topics end."""
    return None if isinstance(seen.kafka, Failed) else seen.kafka.seconds


def command_seconds(seen: Observation) -> Mapping[str, Buckets] | None:
    """The times that the command API took to answer."""
    return _buckets(seen.command_figures, REQUEST_SECONDS)


def publish_seconds(seen: Observation) -> Mapping[str, Buckets] | None:
    """The times from the command's transaction to Kafka."""
    return _buckets(seen.relay_figures, PUBLISH_SECONDS)


def batch_seconds(seen: Observation) -> Mapping[str, Buckets] | None:
    """The times from records in hand to rows committed."""
    return _buckets(seen.projector_figures, BATCH_SECONDS)


def query_seconds(seen: Observation) -> Mapping[str, Buckets] | None:
    """The times that the query API took to answer."""
    return _buckets(seen.query_figures, REQUEST_SECONDS)


def page_seconds(seen: Observation) -> Mapping[str, Buckets] | None:
    """The times that the event API took to answer; what took longer than the last bound was a stream."""
    known = _buckets(seen.event_figures, REQUEST_SECONDS)
    return None if known is None else {url: _without_streams(buckets) for url, buckets in known.items()}


def _without_streams(buckets: Buckets) -> Buckets:
    finite = {bound: count for bound, count in buckets.items() if bound != float("inf")}
    return {**finite, float("inf"): max(finite.values(), default=0.0)} if buckets else {}


#: The last hour is kept of these: counts as how fast they grow, and levels.
RATES: Final[Mapping[str, Count]] = {
    "commands": commands,
    "published": published,
    "queries": queries,
    "sent": sent,
}
LEVELS: Final[Mapping[str, Figure]] = {"waiting": oldest, "unread": unread, "behind": behind, "kafka": kafka_seconds}


def _counts(figures: Figures, name: str) -> Mapping[str, float] | None:
    return None if isinstance(figures, Failed) else {url: each.counts.get(name, 0.0) for url, each in figures.items()}


def _buckets(figures: Figures, name: str) -> Mapping[str, Buckets] | None:
    return None if isinstance(figures, Failed) else {url: each.buckets.get(name, {}) for url, each in figures.items()}


def _answers(figures: Figures) -> Mapping[str, float] | None:
    known = _buckets(figures, REQUEST_SECONDS)
    return None if known is None else {url: max(each.values(), default=0.0) for url, each in known.items()}
