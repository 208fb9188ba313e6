"""The way of an event, from command to query, as stations: each with its state in words and its figures.

A station is well, not well, or not known: what can only be told with a part that does not answer is not known, and so
never well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from markupsafe import Markup

from console.asking import Failed
from console.overview import figures
from console.overview.figures import Histogram
from console.overview.observation import Observation
from console.overview.sparkline import sparkline
from console.overview.verdict import OverviewFinding
from console.overview.watch import Watch
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
_GRAPHS: Final[Mapping[str, str]] = {
    "commands": "Commands answered a second",
    "waiting": "Age of the oldest event that waits",
    "published": "Events published a second",
    "kafka": "Seconds that Kafka took to answer",
    "behind": "Seconds behind",
    "queries": "Queries answered a second",
    "sent": "Events sent a second",
}
_WITHOUT_OUTBOX: Final = "the command database does not answer"
_LOOKS: Final = {"well": "good", "not well": "bad", "not known": "unknown"}


class NamedFigure(NamedTuple):
    """A number with its name."""

    name: str
    value: str


class _Known(NamedTuple):
    """A station, as known: its state in words where it is well, its figures, and what makes it not known."""

    words: str
    figures: Sequence[NamedFigure]
    unknown: str = ""


class Station(NamedTuple):
    """One station; `graph` is its last hour."""

    name: str
    role: str
    #: `well`, `not well` or `not known`.
    state: str
    words: str
    figures: Sequence[NamedFigure]
    graph: Markup

    @property
    def look(self) -> str:
        """The look of the state, beside its words."""
        return _LOOKS[self.state]


def stations(watch: Watch, seen: Observation, found: Sequence[OverviewFinding]) -> list[Station]:
    """The stations in the order in which an event passes them."""

    def station(name: str, role: str, known: _Known, graph: str) -> Station:
        state, why = _state(name, found, known.unknown)
        drawn = sparkline(watch.history.series(graph, seen.at), f"{_GRAPHS[graph]}, in the last hour")
        words = why or seen.partly.get(name) or known.words
        return Station(name, role, state, words, known.figures, drawn)

    return [
        station("Command API", "takes commands; p50, p99: an answer", _commands(watch), "commands"),
        station("Outbox", "keeps events until they are published", _outbox(watch, seen), "waiting"),
        station("Relay", "publishes them; p50, p99: from the commit to Kafka", _relay(watch, seen), "published"),
        station("Kafka", "keeps them for all who read; p50, p99: a question of ours", _kafka(watch, seen), "kafka"),
        station("Projectors", "write the read tables; p50, p99: a batch", _projectors(watch, seen), "behind"),
        station("Query API", "answers from them; p50, p99: an answer", _queries(watch), "queries"),
        station("Event API", "streams events to services; p50, p99: a page and its wait", _events(watch, seen), "sent"),
    ]


def _state(name: str, found: Sequence[OverviewFinding], unknown: str) -> tuple[str, str]:
    """A station's state, and why it is not well; `Projection users` is one of the projectors'."""
    own = [finding for finding in found if finding.part.startswith(_PARTS[name])]
    if any(finding.is_known for finding in own):
        return "not well", "see above"
    if own or unknown:
        return "not known", unknown or "see above"
    return "well", ""


def _commands(watch: Watch) -> _Known:
    return _Known(
        "ready", [NamedFigure("answers", _rate(watch, figures.commands)), *_quantiles(watch, figures.command_seconds)]
    )


def _outbox(watch: Watch, seen: Observation) -> _Known:
    if isinstance(seen.outbox, Failed):
        return _Known("", [], _WITHOUT_OUTBOX)
    backlog = seen.outbox.backlog
    words = f"{'about ' if backlog.estimated else ''}{count(backlog.events)} wait" if backlog.events else "empty"
    return _Known(
        words,
        [
            NamedFigure("takes", _rate(watch, figures.appended)),
            NamedFigure("waiting", count(backlog.events)),
            NamedFigure("oldest", _age(backlog.oldest_seconds)),
            *_quantiles(watch, figures.publish_seconds),
        ],
    )


def _relay(watch: Watch, seen: Observation) -> _Known:
    leader = None if isinstance(seen.outbox, Failed) else seen.outbox.leader
    return _Known(
        f"{leader.instance} leads" if leader else "",
        [
            NamedFigure("publishes", _rate(watch, figures.published)),
            NamedFigure("oldest", _age(figures.oldest(seen))),
            *_quantiles(watch, figures.publish_seconds),
        ],
        _WITHOUT_OUTBOX if isinstance(seen.outbox, Failed) else "",
    )


def _kafka(watch: Watch, seen: Observation) -> _Known:
    parts = [part for each in seen.serving for part in each.partitions if part.records]
    last = max(parts, key=lambda part: part.records or 0, default=None)
    if figures.unread(seen) is None:
        words = "answers; how much is unread cannot be told"
    else:
        words = f"partition {last.partition} has the most to be read" if last else "all is read"
    asked = ((name, watch.recent(figures.kafka_seconds, part)) for name, part in (("p50", 0.5), ("p99", 0.99)))
    return _Known(
        words,
        [
            NamedFigure("arrive", _rate(watch, figures.published)),
            NamedFigure("unread", count(figures.unread(seen))),
            NamedFigure("oldest", _age(figures.oldest_unread(seen))),
            *(NamedFigure(name, seconds(value)) for name, value in asked),
        ],
    )


def _projectors(watch: Watch, seen: Observation) -> _Known:
    return _Known(
        f"{count(len(seen.serving))} projections follow",
        [
            NamedFigure("apply", _rate(watch, figures.applied)),
            NamedFigure("behind", seconds(figures.behind(seen))),
            *_quantiles(watch, figures.batch_seconds),
        ],
        "how far they are cannot be told without Kafka" if isinstance(seen.kafka, Failed) else "",
    )


def _queries(watch: Watch) -> _Known:
    return _Known(
        "ready", [NamedFigure("answers", _rate(watch, figures.queries)), *_quantiles(watch, figures.query_seconds)]
    )


def _events(watch: Watch, seen: Observation) -> _Known:
    return _Known(
        "ready",
        [
            NamedFigure("sends", _rate(watch, figures.sent)),
            NamedFigure("clients", count(figures.clients(seen))),
            *_quantiles(watch, figures.page_seconds),
        ],
    )


def _quantiles(watch: Watch, histogram: Histogram) -> list[NamedFigure]:
    known = watch.quantiles(histogram)
    return [NamedFigure(name, seconds(known.get(name))) for name in ("p50", "p99")]


def _rate(watch: Watch, growing: figures.Count) -> str:
    value = watch.rate(growing)
    return "–" if value is None else f"{count(round(value, 1))} /s"


def _age(value: float | None) -> str:
    return seconds(value) if value else "–"
