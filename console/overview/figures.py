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
from console.overview.scrape import Buckets, Scrape

#: A figure of a look: one that grows, or one of its moment.
Figure: TypeAlias = Callable[[Observation], float | None]
Histogram: TypeAlias = Callable[[Observation], Buckets | None]


def commands(seen: Observation) -> float | None:
    """Answers of the command API since it started."""
    return _answers(seen.command_figures)


def queries(seen: Observation) -> float | None:
    """Answers of the query API since it started."""
    return _answers(seen.query_figures)


def appended(seen: Observation) -> float | None:
    """Events that were committed, as far as the relay's count and its backlog tell."""
    count = published(seen)
    return None if count is None or isinstance(seen.outbox, Failed) else count + seen.outbox.backlog.events


def published(seen: Observation) -> float | None:
    """Events that the relay has published since it started."""
    return _count(seen.relay_figures, PUBLISHED)


def applied(seen: Observation) -> float | None:
    """Records that the generations that serve have taken, on average; they all take the same."""
    figures = _known(seen.projector_figures)
    if figures is None or not seen.serving:
        return None
    taken = [figures.by_generation.get((APPLIED, each.projection, each.number), 0.0) for each in seen.serving]
    return sum(taken) / len(taken)


def sent(seen: Observation) -> float | None:
    """Events that the event API has sent since it started, to all clients together."""
    return _count(seen.event_figures, SENT)


def clients(seen: Observation) -> float | None:
    """Clients that follow the event API."""
    return _count(seen.event_figures, STREAMS)


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


def command_seconds(seen: Observation) -> Buckets | None:
    """The times that the command API took to answer."""
    return _buckets(seen.command_figures, REQUEST_SECONDS)


def publish_seconds(seen: Observation) -> Buckets | None:
    """The times from the command's transaction to Kafka."""
    return _buckets(seen.relay_figures, PUBLISH_SECONDS)


def batch_seconds(seen: Observation) -> Buckets | None:
    """The times from records in hand to rows committed."""
    return _buckets(seen.projector_figures, BATCH_SECONDS)


def query_seconds(seen: Observation) -> Buckets | None:
    """The times that the query API took to answer."""
    return _buckets(seen.query_figures, REQUEST_SECONDS)


def page_seconds(seen: Observation) -> Buckets | None:
    """The times that the event API took to answer; what took longer than the last bound was a stream."""
    known = _buckets(seen.event_figures, REQUEST_SECONDS)
    if known is None:
        return None
    finite = {bound: count for bound, count in known.items() if bound != float("inf")}
    return {**finite, float("inf"): max(finite.values(), default=0.0)} if known else {}


#: The last hour is kept of these: counts as how fast they grow, and levels.
RATES: Final[Mapping[str, Figure]] = {
    "commands": commands,
    "published": published,
    "queries": queries,
    "sent": sent,
}
LEVELS: Final[Mapping[str, Figure]] = {"waiting": oldest, "unread": unread, "behind": behind, "kafka": kafka_seconds}


def _known(figures: Figures) -> Scrape | None:
    return None if isinstance(figures, Failed) else figures


def _count(figures: Figures, name: str) -> float | None:
    known = _known(figures)
    return None if known is None else known.counts.get(name, 0.0)


def _buckets(figures: Figures, name: str) -> Buckets | None:
    known = _known(figures)
    return None if known is None else known.buckets.get(name, {})


def _answers(figures: Figures) -> float | None:
    buckets = _buckets(figures, REQUEST_SECONDS)
    return None if buckets is None else max(buckets.values(), default=0.0)
