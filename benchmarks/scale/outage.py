"""A simulation, second by second: Kafka is away at the peak, then the backlog drains through relay and projectors."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

from benchmarks.scale import measured
from benchmarks.scale.plans import Plan, needs

#: Ten minutes: longer than a cluster takes to elect, shorter than a day.
AWAY_SECONDS: Final = 600
#: A plan that has not caught up after a day never does.
_MOST_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class Outage:
    """The greatest backlog of the outbox, and the seconds from Kafka's return until all is published, and applied."""

    backlog: int
    backlog_gb: float
    published_after: int
    visible_after: int


def simulate(plan: Plan) -> Outage:
    """Let commands flow at the peak, all the while.

    Raises:
        ValueError: it never catches up.
    """
    wanted = needs(plan)
    relays, projectors = measured.RELAYED * wanted.command_shards, measured.APPLIED * wanted.projector_cores
    outbox = float(plan.commands * AWAY_SECONDS)
    topic, greatest, published_after = 0.0, outbox, None
    for second in range(1, _MOST_SECONDS):
        outbox += plan.commands
        sent = min(outbox, relays)
        outbox -= sent
        topic = max(0.0, topic + sent - projectors)
        greatest = max(greatest, outbox)
        if published_after is None and outbox == 0:
            published_after = second
        if published_after is not None and topic == 0:
            return Outage(ceil(greatest), greatest * measured.OUTBOX_ROW / 1e9, published_after, second)
    raise ValueError(f"{plan.commands} commands a second are more than relay and projectors do")
