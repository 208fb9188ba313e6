"""How far behind each generation is, per partition, in records and in seconds; asked of the servers, not of a process.

Records are positions between the checkpoint and the readable end, so they count markers of transactions and what
compaction removed: zero means that nothing is left to read. Seconds are the age of `seen_until`, the time up to which
everything has surely been applied; a partition at its end is behind by as much as the broker's last answer is old.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from chassis.clock import utc_now
from chassis.postgres.database import Database
from projectors.operations.topic_ends import end_positions
from projectors.projections.catalogue import PROJECTIONS
from projectors.settings import ProjectorSettings

_CHECKPOINTS = """
SELECT g.projection, g.generation, g.shape, g.status, c.partition, c.position, c.seen_until
FROM generations g JOIN unnest($1::text[], $2::text[]) AS t (projection, topic) ON t.projection = g.projection
    LEFT JOIN checkpoints c ON c.projection = g.projection AND c.generation = g.generation AND c.topic = t.topic
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
    """Every generation, of the projections that this code knows, that is not retired.

    Raises:
        DatabaseUnavailableError, KafkaError, OSError, TimeoutError: a server did not answer.
    """
    topics = {name: projection.subject.topic(settings) for name, projection in PROJECTIONS.items()}
    ends = {topic: await end_positions(settings, topic, settings.topic_partitions) for topic in set(topics.values())}
    async with database.connection() as connection:
        rows = await connection.fetch(_CHECKPOINTS, list(topics), list(topics.values()))
    now = utc_now()
    found: dict[tuple[str, int, int, str], dict[int, tuple[int, datetime | None]]] = {}
    for row in rows:
        key = (row["projection"], row["generation"], row["shape"], row["status"])
        known = found.setdefault(key, {})
        if row["partition"] is not None:
            known[row["partition"]] = (row["position"], row["seen_until"])
    return [_generation(*key, known, ends[topics[key[0]]], now) for key, known in found.items()]


def _generation(  # noqa: PLR0913, PLR0917 - one row's columns
    projection: str,
    number: int,
    shape: int,
    status: str,
    checkpoints: Mapping[int, tuple[int, datetime | None]],
    ends: Mapping[int, int],
    now: datetime,
) -> GenerationLag:
    partitions, seen = [], []
    for partition, end in sorted(ends.items()):
        position, seen_until = checkpoints.get(partition, (0, None))
        seconds = None if seen_until is None else max((now - seen_until).total_seconds(), 0.0)
        partitions.append(PartitionLag(partition, max(end - position, 0), seconds))
        seen.append(seen_until)
    known = [time for time in seen if time is not None]
    oldest = min(known, default=None) if len(known) == len(seen) else None
    return GenerationLag(projection, number, shape, status, partitions, oldest)
