"""Tells whether a generation is fed, from the query database: who feeds a partition notes it there every second.

So everybody judges alike, whoever else is down: a projectors process, `muster lag`, `muster doctor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

from read_model.catalogue import SCHEMAS
from read_model.generations import Connection, Generation


class FeedState(StrEnum):
    """What becomes of a generation's events."""

    FED = "fed"
    #: It must not be fed: what it has read does not fit the topic. Stored with the generation, and never taken back.
    REFUSED = "refused"
    #: Nobody reads some of its partitions.
    UNASSIGNED = "unassigned"
    TOPIC_GONE = "topic-gone"


#: The partitions of a member that died are another's after its session timeout of 6 s, and that one notes within two
#: more seconds: who has been silent for longer does not come back.
SILENT_SECONDS: Final = 10

_UNFED: Final = """
SELECT number FROM generate_series(0, $4::int - 1) AS number
WHERE NOT EXISTS (
    SELECT FROM checkpoints c
    WHERE c.projection = $1 AND c.generation = $2 AND c.topic = $3 AND c.partition = number
        AND c.moved_at > now() - make_interval(secs => $5)
)
ORDER BY number
"""


async def unfed(connection: Connection, generation: Generation, topic: str, partitions: int) -> list[int]:
    """The partitions about which nobody has noted anything for SILENT_SECONDS, by the database server's clock."""
    rows = await connection.fetch(
        _UNFED, generation.projection, generation.number, topic, partitions, float(SILENT_SECONDS)
    )
    return [row["number"] for row in rows]


def why_refused(generation: Generation) -> str:
    """The stored reason, and what ends it."""
    name, number = generation.projection, generation.number
    drop = f"`muster rebuild retire {name} --generation {number}` drops it"
    match generation.status:
        case "serving":
            deed = (
                f"`muster rebuild {name}` builds another generation from the topic as it is now, which `muster events"
                " refill` fills first, where it may lack anybody"
            )
        case "building":
            deed = f"`muster rebuild {name}` builds another in its place, {drop} alone"
        case _:
            deed = drop
    return f"{generation.refusal}; {deed}"


def why_unfed(generation: Generation, partitions: Sequence[int]) -> str:
    """What to do where nobody feeds these partitions of a generation."""
    listed = ", ".join(map(str, partitions))
    return f"nobody has fed partitions {listed} for {SILENT_SECONDS} s: {_who_would_feed(generation)}"


def _who_would_feed(generation: Generation) -> str:
    """A process of the version that knows the shape, or the rebuild of a generation that is being built."""
    name, number, shape = generation.projection, generation.number, SCHEMAS[generation.projection].shape
    drop = f"`muster rebuild retire {name} --generation {number}` drops it"
    if generation.status == "building":
        if generation.shape == shape:
            return f"where its rebuild does not run, `muster rebuild {name}` goes on with it, {drop}"
        return f"another version of the code builds it (shape {generation.shape}, this one makes {shape}), {drop}"
    if generation.shape > shape:
        return f"it has shape {generation.shape}, and this version feeds {shape}: see that the newer version runs"
    if generation.shape < shape:
        older = f"it has shape {generation.shape}, and this version feeds {shape}: see that the version before runs"
        return f"{older}; {drop}" if generation.status == "standby" else f"{older}, or `muster rebuild {name}`"
    return "see that `muster project` runs, and its log"


def why_gone(topic: str) -> str:
    """The remedy where there is no such topic."""
    return (
        f"there is no topic {topic}: `muster topics` makes a new one, `muster events refill` fills it"
        " (docs/how-to/refill-a-lost-topic.md)"
    )
