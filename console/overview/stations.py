"""The way of an event, from command to query, as stations: each with its state in words and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

from markupsafe import Markup

from console.overview.history import History
from console.overview.observation import Failed, Observation
from console.overview.sparkline import sparkline
from console.overview.verdict import Finding
from console.overview.watch import Watch, accepted, applied, behind, published
from console.words import count, seconds

#: The parts whose findings make a station other than well.
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "Command API": ("Command API", "Command database"),
    "Outbox": ("Outbox",),
    "Relay": ("Relay",),
    "Kafka": ("Kafka",),
    "Projectors": ("Projectors", "Projection", "Parked", "Query database"),
    "Query API": ("Query API",),
    "Event API": ("Event API",),
}


class Figure(NamedTuple):
    """A number with its name."""

    name: str
    value: str


#: What is known of a station: its state in words, and its figures.
_Seen: TypeAlias = tuple[str, Sequence[Figure]]


class Station(NamedTuple):
    """One station; `graph` is its last hour."""

    name: str
    role: str
    well: bool
    words: str
    figures: Sequence[Figure]
    graph: Markup | None


def stations(watch: Watch, seen: Observation, found: Sequence[Finding]) -> list[Station]:
    """The stations in the order in which an event passes them."""
    graphs, troubled = _graphs(watch.history, seen), {name: _troubles(name, found) for name in _PARTS}

    def station(name: str, role: str, known: _Seen, graph: str = "") -> Station:
        why, (words, figures) = troubled[name], known
        return Station(name, role, not why, "see above" if why else words, figures, graphs.get(graph))

    return [
        station("Command API", "takes commands", ("ready", [Figure("accepts", _rate(watch.rate(accepted)))])),
        station("Outbox", "keeps events until they are published", _outbox(seen), "waiting"),
        station("Relay", "publishes them; p50, p99: from the commit to Kafka", _relay(watch, seen), "published"),
        station("Kafka", "keeps them for all who read", _kafka(watch, seen)),
        station("Projectors", "write the read tables; p50, p99: a batch", _projectors(watch, seen), "behind"),
        station("Query API", "answers from them", ("ready", []), "applied"),
        station("Event API", "streams events to other services", ("ready", [])),
    ]


def _outbox(seen: Observation) -> _Seen:
    if isinstance(seen.outbox, Failed):
        return "not known: the command database does not answer", []
    backlog = seen.outbox.backlog
    words = f"{'about ' if backlog.estimated else ''}{count(backlog.events)} wait" if backlog.events else "empty"
    return words, [Figure("waiting", count(backlog.events)), Figure("oldest", _age(backlog.oldest_seconds))]


def _relay(watch: Watch, seen: Observation) -> _Seen:
    leader = None if isinstance(seen.outbox, Failed) else seen.outbox.leader
    times = seen.relay.publish_seconds
    return f"{leader.instance} leads" if leader else "not known", [
        Figure("publishes", _rate(watch.rate(published))),
        *(Figure(name, seconds(times.get(name))) for name in ("p50", "p99")),
    ]


def _kafka(watch: Watch, seen: Observation) -> _Seen:
    parts = [part for each in seen.serving for part in each.partitions if part.records]
    last = max(parts, key=lambda part: part.records or 0, default=None)
    words = f"partition {last.partition} has the most to be read" if last else "all is read"
    number = len(seen.serving[0].partitions) if seen.serving else None
    return words, [
        Figure("arrive", _rate(watch.rate(published))),
        Figure("partitions", count(number)),
        Figure("unread at most", count(last.records if last else 0)),
    ]


def _projectors(watch: Watch, seen: Observation) -> _Seen:
    batches = {} if isinstance(seen.projectors, Failed) else seen.projectors.batch_seconds
    known = [batches[key] for each in seen.serving if batches.get(key := (each.projection, each.number))]
    return f"{count(len(seen.serving))} projections follow", [
        Figure("apply", _rate(watch.rate(applied))),
        Figure("behind", seconds(behind(seen))),
        *(Figure(name, _slowest(name, known)) for name in ("p50", "p99")),
    ]


def _slowest(name: str, known: Sequence[Mapping[str, float]]) -> str:
    return seconds(max((each[name] for each in known), default=None))


def _graphs(history: History, seen: Observation) -> dict[str, Markup]:
    return {
        name: sparkline(history.series(name, seen.at), f"{what}, in the last hour")
        for name, what in (
            ("waiting", "Age of the oldest event that waits"),
            ("published", "Events published a second"),
            ("behind", "Seconds behind"),
            ("applied", "Records applied a second"),
        )
    }


def _troubles(name: str, found: Sequence[Finding]) -> str:
    """What is wrong with a station; `Projection users` is one of the projectors'."""
    return "; ".join(finding.why for finding in found if finding.part.startswith(_PARTS[name]))


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{count(round(value, 1))} /s"


def _age(value: float) -> str:
    return seconds(value) if value else "–"
