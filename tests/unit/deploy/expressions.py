"""PromQL, taken apart: which series an expression asks for, and by which labels."""

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

import promql_parser
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric

#: Where metrics are declared; each registers them when it is imported.
DECLARING = (
    "chassis.access.issuer_keys",
    "chassis.access.rates",
    "chassis.http.middleware",
    "chassis.http.transport.connections",
    "chassis.telemetry",
    "outbox.relay.metrics",
    "projectors.consumer.metrics",
)
#: What Prometheus adds to each series that it asks a process for.
TARGET_LABELS = {"job", "instance", "namespace", "pod", "le"}
#: Of Prometheus itself, and of prometheus_client on Linux.
OTHERS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"}


@cache
def metrics() -> dict[str, set[str]]:
    """Every series of ours by name, with its own labels."""
    for module in DECLARING:
        import_module(module)
    found: dict[str, set[str]] = {}
    for collector in list(REGISTRY._collector_to_names):
        labels = set(getattr(collector, "_labelnames", ()))
        found |= {name: labels for metric in _described(collector) for name in _series(metric)}
    return {name: labels for name, labels in found.items() if name.startswith("muster_")}


def _described(collector: Any) -> list[Metric]:
    return list((collector.describe if hasattr(collector, "describe") else collector.collect)())


def _series(metric: Metric) -> list[str]:
    match metric.type:
        case "counter":
            return [f"{metric.name}_total"]
        case "histogram":
            return [f"{metric.name}_bucket", f"{metric.name}_count", f"{metric.name}_sum"]
        case _:
            return [metric.name]


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each series that an expression names, and the labels that it compares."""
    tree = promql_parser.parse(expression)
    found: list[promql_parser.VectorSelector] = []
    _collect(tree, found)
    for selector in found:
        assert selector.name, "each selector names a series"
        yield selector.name, {matcher.name for matcher in selector.matchers.matchers}


def grouped(expression: str) -> set[str]:
    """The labels by which an expression groups or matches."""
    found: list[Any] = []
    _collect(promql_parser.parse(expression), found, promql_parser.AggregateExpr)
    return {label for aggregate in found if aggregate.modifier for label in aggregate.modifier.labels}


def _collect(node: Any, found: list[Any], kind: Any = promql_parser.VectorSelector) -> None:
    if isinstance(node, kind):
        found.append(node)
    for child in _children(node):
        _collect(child, found, kind)


def _children(node: Any) -> Iterator[Any]:
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        child = getattr(node, name, None)
        if child is not None:
            yield child
    yield from getattr(node, "args", ())
