"""The relay's part of `muster lag`: the figures that one relay process gives on its port."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from chassis.postgres.database import describe
from cli.terminal.output import counted
from outbox.settings import RelayAddress

#: A healthy relay answers in milliseconds; an operator should not wait for one that hangs.
METRICS_SECONDS: Final = 2.0
QUANTILES: Final = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class RelayFigures:
    """What the process counted since it started; where `error` is set, the rest means nothing."""

    url: str
    error: str | None = None
    leads: bool = False
    published: int = 0
    producers_recreated: int = 0
    rows_below_floor: int = 0
    #: Seconds from the command's transaction to the commit on Kafka, by quantile; empty before the first event.
    publish_seconds: dict[str, float] = field(default_factory=dict)


async def ask_relay(settings: RelayAddress) -> RelayFigures:
    """Read the relay's `/metrics`; a relay that does not answer gives figures with an error."""
    url = f"http://{settings.relay_http_host}:{settings.relay_http_port}"
    try:
        async with httpx.AsyncClient(timeout=METRICS_SECONDS, trust_env=False) as http:
            answer = await http.get(f"{url}/metrics")
            answer.raise_for_status()
        return _read(url, answer.text)
    except httpx.HTTPError as error:
        return RelayFigures(url, error=describe(error))
    except (KeyError, ValueError):
        return RelayFigures(url, error="something answers there that is no relay")


def _read(url: str, text: str) -> RelayFigures:
    values, buckets = {}, []
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "muster_outbox_publish_seconds_bucket":
                buckets.append((float(sample.labels["le"]), sample.value))
            values[sample.name] = sample.value
    return RelayFigures(
        url,
        leads=values["muster_outbox_leader"] == 1,
        published=int(values["muster_outbox_published_total"]),
        producers_recreated=int(values["muster_outbox_producer_recreated_total"]),
        rows_below_floor=int(values["muster_outbox_below_floor_total"]),
        publish_seconds={f"p{100 * q:g}": quantile(buckets, q) for q in QUANTILES if buckets and buckets[-1][1]},
    )


def quantile(buckets: list[tuple[float, float]], wanted: float) -> float:
    """Return a quantile of a cumulative histogram, linear within a bucket, at most the last finite bound.

    Source: Prometheus's documentation, `histogram_quantile`.
    """
    rank, below, lower = wanted * buckets[-1][1], 0.0, 0.0
    for upper, count in buckets[:-1]:
        if count >= rank:
            return lower + (upper - lower) * (rank - below) / (count - below) if count > below else upper
        below, lower = count, upper
    return lower


def relay_lines(figures: RelayFigures) -> list[str]:
    """Return the figures as lines for people."""
    if figures.error is not None:
        return [f"relay at {figures.url}: does not answer ({figures.error})"]
    seconds = ", ".join(f"{name} {value:.3g} s" for name, value in figures.publish_seconds.items())
    done = (
        f"{counted(figures.published, 'event')} published,"
        f" {counted(figures.producers_recreated, 'producer')} recreated,"
        f" {counted(figures.rows_below_floor, 'row')} below the floor"
    )
    return [
        f"relay at {figures.url}: {'leads' if figures.leads else 'does not lead'}, {done}",
        f"  from commit to Kafka: {seconds or 'nothing published yet'}",
    ]


def relay_document(figures: RelayFigures) -> dict[str, Any]:
    """Return the figures for --json; of a relay that does not answer, its error and nulls."""
    document = asdict(figures)
    return document if figures.error is None else dict.fromkeys(document) | {"url": figures.url, "error": figures.error}
