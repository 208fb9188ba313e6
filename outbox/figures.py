"""The counts of one relay process, as it gives them on its port: for `muster lag` and the console."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import httpx
from prometheus_client.parser import text_string_to_metric_families

from chassis.outages import describe
from outbox.settings import RelayAddress

#: A healthy relay answers in milliseconds; an operator should not wait for one that hangs.
METRICS_SECONDS: Final = 2.0
#: Beyond so many processes at one name a look would cost more than it tells.
MOST_PROCESSES: Final = 64
QUANTILES: Final = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class RelayFigures:
    """The counts since the process started; where `error` is set, the rest means nothing."""

    url: str
    error: str | None = None
    leads: bool = False
    published: int = 0
    producers_recreated: int = 0
    rows_below_floor: int = 0
    #: Seconds from the command's transaction to the commit on Kafka, by quantile; empty before the first event.
    publish_seconds: dict[str, float] = field(default_factory=dict)


async def ask_relay(settings: RelayAddress, http: httpx.AsyncClient) -> RelayFigures:
    """Read the relay's `/metrics`; of several relays by one name those of the one that leads.

    Where none leads they are another's, and where none answers they have an error.
    """
    host, port = settings.relay_http_host, settings.relay_http_port
    found = await asyncio.gather(*(_ask(http, url) for url in await urls_of(host, port)))
    return min(found, key=lambda figures: (not figures.leads, figures.error is not None))


async def urls_of(host: str, port: int) -> list[str]:
    """A URL for each process at a name: those of its addresses; or the name's, which leads to one, or explains why not.

    A machine may have an address of either family, so those of one family are counted; of more than MOST_PROCESSES
    always the same are taken.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(METRICS_SECONDS):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:  # a deadline that is over is one as well
        return [_url(host, port)]
    families = [sorted({str(address[0]) for kind, *_, address in found if kind == family}) for family, *_ in found]
    addresses = max(families, key=len)
    return [_url(each, port) for each in (addresses[:MOST_PROCESSES] if len(addresses) > 1 else [host])]


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _ask(http: httpx.AsyncClient, url: str) -> RelayFigures:
    try:
        answer = await http.get(f"{url}/metrics", timeout=METRICS_SECONDS)
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
        publish_seconds=quantiles(buckets, QUANTILES),
    )


def quantiles(buckets: Sequence[tuple[float, float]], wanted: Sequence[float]) -> dict[str, float]:
    """Quantiles of a cumulative histogram by their names, such as `p99`; none where nothing was counted."""
    return {f"p{100 * q:g}": quantile(buckets, q) for q in wanted if buckets and buckets[-1][1]}


def quantile(buckets: Sequence[tuple[float, float]], wanted: float) -> float:
    """Return a quantile of a cumulative histogram, linear within a bucket, at most the last finite bound.

    Source: Prometheus's documentation, `histogram_quantile`.
    """
    rank, below, lower = wanted * buckets[-1][1], 0.0, 0.0
    for upper, count in buckets[:-1]:
        if count >= rank:
            return lower + (upper - lower) * (rank - below) / (count - below) if count > below else upper
        below, lower = count, upper
    return lower
