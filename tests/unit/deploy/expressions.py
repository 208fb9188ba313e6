"""PromQL, taken apart: which series an expression asks for, and by which labels."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
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
    "chassis.tracing.exporting",
    "command_api.app",
    "event_api.app",
    "outbox.relay.metrics",
    "projectors.consumer.metrics",
    "query_api.app",
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


@dataclass(frozen=True, slots=True)
class Matcher:
    """One comparison of a label."""

    label: str
    values: tuple[str, ...]
    negated: bool

    def takes(self, value: str) -> bool:
        """Whether a series with this value is meant."""
        return any(re.fullmatch(each, value) for each in self.values) != self.negated


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each series that an expression names, and the labels that it compares."""
    for name, compared in matched(expression):
        yield name, {matcher.label for matcher in compared}


def matched(expression: str) -> Iterator[tuple[str, list[Matcher]]]:
    """Each series that an expression names, and how it compares labels; the alternatives of a pattern are values."""
    found: list[promql_parser.VectorSelector] = []
    _collect(promql_parser.parse(expression), found)
    for selector in found:
        assert selector.name, "each selector names a series"
        yield selector.name, [_matcher(each) for each in selector.matchers.matchers]


def _matcher(given: promql_parser.Matcher) -> Matcher:
    is_pattern = given.op in (promql_parser.MatchOp.Re, promql_parser.MatchOp.NotRe)
    return Matcher(
        label=given.name,
        values=tuple(given.value.split("|")) if is_pattern else (re.escape(given.value),),
        negated=given.op in (promql_parser.MatchOp.NotEqual, promql_parser.MatchOp.NotRe),
    )


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
