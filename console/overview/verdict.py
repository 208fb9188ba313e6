"""Tells in words whether all is well: pure, from one observation.

The parts are looked at in the order in which an event goes through them, so the first finding is nearest to the cause.
What waits for a person, and holds up few, comes behind them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from console.asking import Failed
from console.overview.observation import Figures, Observation
from console.words import count, moment, seconds

#: An event is on Kafka within a second; one that waits longer than this waits for something. This and the next come,
#: with the looks, to less than 20 s from the cause to the page.
OLD_SECONDS: Final = 8.0
#: Read tables follow within a second; when a projectors process ends, others take over after 6 s.
BEHIND_SECONDS: Final = 8.0
#: The longest time between two looks that somebody watches is shorter: what was seen then says nothing of now.
STALE_SECONDS: Final = 16.0


class OverviewFinding(NamedTuple):
    """A part that is not well, or of which nothing is known, and why."""

    part: str
    why: str
    is_known: bool = True


class OverviewVerdict(NamedTuple):
    """The verdict on all: `look` is how it looks, in words first."""

    look: str
    headline: str
    #: Findings beside the one that the headline says.
    others: Sequence[OverviewFinding] = ()
    #: True where what was seen is too old to say anything of now.
    is_stale: bool = False


def verdict(seen: Observation, now: datetime) -> OverviewVerdict:
    """All in one line, and what else is found; what is not known any more is never well."""
    if (now - seen.at).total_seconds() > STALE_SECONDS:
        why = f"the last look was at {moment(seen.at)}, and the console's log says why there is no later one"
        return OverviewVerdict("unknown", f"Not known: {why}", is_stale=True)
    found = findings(seen)
    if not found:
        return OverviewVerdict("good", "All is well")
    first, *others = found
    look, words = ("bad", "Not well") if first.is_known else ("unknown", "Not known")
    return OverviewVerdict(look, f"{words}: {first.part}, {first.why}", others)


def findings(seen: Observation) -> list[OverviewFinding]:
    """The parts that are not well, and then those that are not known; nothing where all is well."""
    found = [*_command_side(seen), *_relay(seen), *_read_side(seen), *_readers(seen), *_for_a_person(seen)]
    return sorted(found, key=lambda finding: not finding.is_known)


def _command_side(seen: Observation) -> Iterator[OverviewFinding]:
    if isinstance(seen.outbox, Failed):
        yield OverviewFinding("Command database", seen.outbox.why)
    yield from _api("Command API", seen.command_api, seen.command_figures)


def _relay(seen: Observation) -> Iterator[OverviewFinding]:
    outbox = None if isinstance(seen.outbox, Failed) else seen.outbox
    if outbox is not None and outbox.leader is None:
        yield OverviewFinding("Relay", f"none leads, so nothing is published{_because(seen.relay)}")
    elif seen.relay:
        yield OverviewFinding("Relay", seen.relay)
    elif outbox is not None and outbox.backlog.oldest_seconds > OLD_SECONDS:
        backlog = outbox.backlog
        yield OverviewFinding(
            "Outbox", f"the oldest of {count(backlog.events)} events waits for {seconds(backlog.oldest_seconds)}"
        )
    if not seen.relay and isinstance(seen.relay_figures, Failed):
        yield _without_figures("Relay", seen.relay_figures)


def _read_side(seen: Observation) -> Iterator[OverviewFinding]:
    if isinstance(seen.kafka, Failed):
        yield OverviewFinding("Kafka", seen.kafka.why)
    if isinstance(seen.read_side, Failed):
        yield OverviewFinding("Query database", seen.read_side.why)
    if seen.projectors:
        yield OverviewFinding("Projectors", seen.projectors)
    elif isinstance(seen.projector_figures, Failed):
        yield _without_figures("Projectors", seen.projector_figures)
    if isinstance(seen.read_side, Failed):
        return
    for name in seen.read_side.unserved:
        yield OverviewFinding(f"Projection {name}", "none of its generations serves: `muster migrate query` makes one")
    yield from _projections(seen)


def _projections(seen: Observation) -> Iterator[OverviewFinding]:
    if isinstance(seen.generations, Failed) and not isinstance(seen.kafka, Failed):
        yield OverviewFinding("Projections", f"how far they are cannot be told: {seen.generations.why}", is_known=False)
    for each in seen.serving:
        if each.reason:
            yield OverviewFinding(f"Projection {each.projection}", f"{each.state}: {each.reason}")
        elif each.seconds is None or each.seconds > BEHIND_SECONDS:
            behind = "has never been up to date" if each.seconds is None else f"is {seconds(each.seconds)} behind"
            yield OverviewFinding(f"Projection {each.projection}", behind)


def _readers(seen: Observation) -> Iterator[OverviewFinding]:
    yield from _api("Query API", seen.query_api, seen.query_figures)
    yield from _api("Event API", seen.event_api, seen.event_figures)


def _for_a_person(seen: Observation) -> Iterator[OverviewFinding]:
    if not isinstance(seen.outbox, Failed) and (aside := seen.outbox.backlog.set_aside):
        yield OverviewFinding("Outbox", f"{count(aside)} set aside: `muster outbox show` says what waits for you")
    if not isinstance(seen.read_side, Failed) and (parked := seen.read_side.parked):
        yield OverviewFinding("Parked", f"{count(parked)} records wait for a person: see Parked")


def _api(part: str, why: str, figures: Figures) -> Iterator[OverviewFinding]:
    if why:
        yield OverviewFinding(part, why)
    elif isinstance(figures, Failed):
        yield _without_figures(part, figures)


def _without_figures(part: str, failed: Failed) -> OverviewFinding:
    return OverviewFinding(part, f"its figures cannot be told: {failed.why}", is_known=False)


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
