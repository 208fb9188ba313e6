"""The figures that a process counts, as its `/metrics` gives them, and what they were between two looks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from console.asking import OtherProcessError

#: The upper bound of each bucket, and how many values are not above it.
Buckets: TypeAlias = Mapping[float, float]
_BUCKET: Final = "_bucket"
_BOUND: Final = "le"
_GENERATION: Final = "generation"


@dataclass(frozen=True, slots=True)
class Scrape:
    """The sums of counters and histograms over their labels, by name; one that has counted nothing may be absent."""

    counts: Mapping[str, float]
    buckets: Mapping[str, Buckets]
    #: Values of counters that have one for each generation.
    by_generation: Mapping[tuple[str, str, int], float]


async def scrape(http: httpx.AsyncClient, url: str, known_by: str, names: tuple[str, ...]) -> Scrape:
    """The metrics of these names, from the process whose inner port is there; it has some that begin as `known_by`.

    Raises:
        OtherProcessError: it has none.
        httpx.HTTPError: it does not answer.
    """
    answer = await http.get(f"{url}/metrics")
    answer.raise_for_status()
    return read(answer.text, known_by, names)


def read(text: str, known_by: str, names: tuple[str, ...]) -> Scrape:
    """The metrics of these names; the others, which are many, are not looked into.

    Raises:
        OtherProcessError: it is another process, or they cannot be read.
    """
    if f"# TYPE {known_by}" not in text:
        raise OtherProcessError(f"what answers there is another process: it has no {known_by}")
    wanted = [line for line in text.splitlines() if line.startswith(names)]
    try:
        return _summed(names, text_string_to_metric_families("\n".join([*wanted, ""])))
    except (KeyError, ValueError) as error:
        raise OtherProcessError("its metrics cannot be read") from error


def _summed(names: Sequence[str], families: Iterable[Metric]) -> Scrape:
    counts: dict[str, float] = {}
    buckets: dict[str, dict[float, float]] = {}
    by_generation: dict[tuple[str, str, int], float] = {}
    for sample in (sample for family in families for sample in family.samples):
        histogram = sample.name.removesuffix(_BUCKET)
        if histogram in names and histogram != sample.name:
            known, bound = buckets.setdefault(histogram, {}), float(sample.labels[_BOUND])
            known[bound] = known.get(bound, 0.0) + sample.value
        elif sample.name in names:
            counts[sample.name] = counts.get(sample.name, 0.0) + sample.value
            if _GENERATION in sample.labels:
                key = sample.name, sample.labels["projection"], int(sample.labels[_GENERATION])
                by_generation[key] = by_generation.get(key, 0.0) + sample.value
    return Scrape(counts, buckets, by_generation)


def growth(then: Buckets, now: Buckets) -> Buckets:
    """What a process counted between two looks; all that it has, where it began anew."""
    grown = {bound: count - then.get(bound, 0.0) for bound, count in now.items()}
    return now if any(count < 0 for count in grown.values()) else grown
