"""Whether a generation is fed, as the query database tells: who feeds a partition notes it every second.

So everybody judges alike, whoever else is down: a projectors process, `muster lag`, `muster doctor`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final

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
    match generation.status:
        case "serving":
            deed = (
                f"`muster rebuild {name}` builds another generation from the topic as it is now, which `muster events"
                " refill` fills first, where it may lack anybody"
            )
        case "building":
            deed = f"`muster rebuild retire {name} --generation {number}` drops it, then rebuild anew"
        case _:
            deed = f"`muster rebuild retire {name} --generation {number}` drops it"
    return f"{generation.refusal}; {deed}"


def why_unfed(partitions: Sequence[int]) -> str:
    """What to do where nobody feeds these."""
    listed = ", ".join(map(str, partitions))
    return f"nobody has fed partitions {listed} for {SILENT_SECONDS} s: see that `muster project` runs, and its log"


def why_gone(topic: str) -> str:
    """What to do where there is no such topic."""
    return (
        f"there is no topic {topic}: `muster topics` makes a new one, `muster events refill` fills it"
        " (docs/how-to/refill-a-lost-topic.md)"
    )
