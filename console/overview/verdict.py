"""Whether all is well, in words: pure, from one observation.

The parts are looked at in the order in which an event goes through them, so the first finding is nearest to the cause.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from console.overview.observation import Failed, Observation
from console.words import count, seconds

#: An event is on Kafka within a second; one that waits longer than this waits for something.
OLD_SECONDS: Final = 10.0
#: Read tables follow within a second; a rebuild beside them, or a burst, may cost some.
BEHIND_SECONDS: Final = 30.0


class Finding(NamedTuple):
    """A part that is not well, and why."""

    part: str
    why: str


def findings(seen: Observation) -> list[Finding]:
    """What is not well; nothing where all is."""
    return [*_command_side(seen), *_relay(seen), *_read_side(seen), *_readers(seen)]


def _command_side(seen: Observation) -> Iterator[Finding]:
    if isinstance(seen.outbox, Failed):
        yield Finding("Command database", seen.outbox.why)
    if seen.command_api:
        yield Finding("Command API", seen.command_api)


def _relay(seen: Observation) -> Iterator[Finding]:
    if isinstance(seen.outbox, Failed):
        return
    backlog, leader = seen.outbox.backlog, seen.outbox.leader
    if leader is None:
        yield Finding("Relay", f"none leads, so nothing is published{_because(seen.relay_ready)}")
    elif seen.relay_ready:
        yield Finding("Relay", seen.relay_ready)
    elif backlog.oldest_seconds > OLD_SECONDS:
        yield Finding(
            "Outbox", f"the oldest of {count(backlog.events)} events waits for {seconds(backlog.oldest_seconds)}"
        )
    if backlog.set_aside:
        yield Finding("Outbox", f"{count(backlog.set_aside)} set aside: `muster outbox show` says what waits for you")


def _read_side(seen: Observation) -> Iterator[Finding]:
    if isinstance(seen.parked, Failed):
        yield Finding("Query database", seen.parked.why)
        return
    if isinstance(seen.generations, Failed):
        yield Finding("Kafka", seen.generations.why)
    if seen.projectors_ready:
        yield Finding("Projectors", seen.projectors_ready)
    for each in seen.serving:
        if each.reason:
            yield Finding(f"Projection {each.projection}", f"{each.state}: {each.reason}")
        elif each.seconds is None or each.seconds > BEHIND_SECONDS:
            behind = "has never been up to date" if each.seconds is None else f"is {seconds(each.seconds)} behind"
            yield Finding(f"Projection {each.projection}", behind)
    if seen.parked:
        yield Finding("Parked", f"{count(seen.parked)} records wait for a person: `muster parked list` names them")


def _readers(seen: Observation) -> Iterator[Finding]:
    if seen.query_api:
        yield Finding("Query API", seen.query_api)
    if seen.event_api:
        yield Finding("Event API", seen.event_api)


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""
