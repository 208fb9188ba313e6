"""How far behind each generation is, per partition, in records and in seconds; asked of the servers, not of a process.

Records are positions between the checkpoint and the readable end, so markers of transactions and what compaction
removed count too: zero means nothing is left to read. Seconds are the age of `seen_until`, the time up to which
everything has surely been applied; a partition at its end is behind by as much as its last look is old.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from chassis.clock import utc_now
from chassis.postgres.database import Database
from projectors.operations.rebuild import end_positions
from projectors.settings import ProjectorSettings

_CHECKPOINTS = """
SELECT g.projection, g.generation, g.shape, g.status, c.partition, c.position, c.seen_until
FROM generations g LEFT JOIN checkpoints c
    ON c.projection = g.projection AND c.generation = g.generation AND c.topic = $1
WHERE g.status <> 'retired' ORDER BY g.projection, g.generation, c.partition
"""


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One partition of one generation."""

    partition: int
    records: int
    #: None: nothing has ever been applied.
    seconds: float | None


@dataclass(frozen=True, slots=True)
class GenerationLag:
    """One generation; `partitions` are all those of the topic."""

    projection: str
    number: int
    shape: int
    status: str
    partitions: Sequence[PartitionLag]
    seen_until: datetime | None

    @property
    def records(self) -> int:
        """Behind in all partitions together."""
        return sum(partition.records for partition in self.partitions)

    @property
    def seconds(self) -> float | None:
        """Behind in the partition that is furthest behind; None where one has never been applied."""
        known = [partition.seconds for partition in self.partitions if partition.seconds is not None]
        return max(known, default=0.0) if len(known) == len(self.partitions) else None


async def measure(settings: ProjectorSettings, database: Database) -> list[GenerationLag]:
    """Every generation that is not retired.

    Raises:
        DatabaseUnavailableError, KafkaError, OSError, TimeoutError: a server did not answer.
    """
    ends = await end_positions(settings)
    async with database.connection() as connection:
        rows = await connection.fetch(_CHECKPOINTS, settings.events_topic)
    now = utc_now()
    found: dict[tuple[str, int, int, str], dict[int, tuple[int, datetime | None]]] = {}
    for row in rows:
        key = (row["projection"], row["generation"], row["shape"], row["status"])
        places = found.setdefault(key, {})
        if row["partition"] is not None:
            places[row["partition"]] = (row["position"], row["seen_until"])
    return [_generation(*key, places, ends, now) for key, places in found.items()]


def _generation(  # noqa: PLR0913, PLR0917 - one row's columns
    projection: str,
    number: int,
    shape: int,
    status: str,
    places: Mapping[int, tuple[int, datetime | None]],
    ends: Mapping[int, int],
    now: datetime,
) -> GenerationLag:
    partitions, seen = [], []
    for partition, end in sorted(ends.items()):
        position, seen_until = places.get(partition, (0, None))
        seconds = None if seen_until is None else max((now - seen_until).total_seconds(), 0.0)
        partitions.append(PartitionLag(partition, max(end - position, 0), seconds))
        seen.append(seen_until)
    known = [time for time in seen if time is not None]
    oldest = min(known, default=None) if len(known) == len(seen) else None
    return GenerationLag(projection, number, shape, status, partitions, oldest)
