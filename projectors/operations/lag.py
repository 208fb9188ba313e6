"""How far behind each generation is, per partition, in records and in seconds; asked of the servers, not of a process.

Records are positions between the checkpoint and the readable end, so they count markers of transactions and what
compaction removed: zero means that nothing is left to read. Positions on a topic that is gone, or is another now,
cannot be compared, and nothing is said then. Seconds are the age of `seen_until`, the time up to which everything has
surely been applied; a partition at its end is behind by as much as the broker's last answer is old.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

import asyncpg

from chassis.postgres.database import Database
from projectors.operations.topic_ends import TopicEnds, look_at_topic
from projectors.projections.catalogue import PROJECTIONS
from projectors.settings import ProjectorSettings
from read_model import generations
from read_model.feeding import FeedState, unfed, why_gone, why_refused, why_unfed
from read_model.generations import Generation

_CHECKPOINTS = """
SELECT partition, position, topic_id, seen_until, extract(epoch FROM now() - seen_until)::float8 AS seconds
FROM checkpoints WHERE projection = $1 AND generation = $2 AND topic = $3
"""


@dataclass(frozen=True, slots=True)
class PartitionLag:
    """One partition of one generation."""

    partition: int
    #: None: its position is one of another topic than is there now.
    records: int | None
    #: None: nothing has ever been applied.
    seconds: float | None


@dataclass(frozen=True, slots=True)
class GenerationLag:
    """One generation; `partitions` are all those of the topic."""

    projection: str
    number: int
    shape: int
    status: str
    state: FeedState
    #: Why the state is no better, and what to do; empty for one that is fed.
    reason: str
    partitions: Sequence[PartitionLag]
    seen_until: datetime | None

    @property
    def was_fed(self) -> bool:
        """Whether anything was ever applied, of the topic that the settings name."""
        return any(partition.seconds is not None for partition in self.partitions)

    @property
    def records(self) -> int | None:
        """Behind in all partitions together; None where that cannot be known for one."""
        known = [partition.records for partition in self.partitions if partition.records is not None]
        return sum(known) if len(known) == len(self.partitions) else None

    @property
    def seconds(self) -> float | None:
        """Behind in the partition that is furthest behind; None where one has never been applied."""
        known = [partition.seconds for partition in self.partitions if partition.seconds is not None]
        return max(known, default=0.0) if len(known) == len(self.partitions) else None


#: Each topic that projections read, by name; None for one that is not there.
Topics: TypeAlias = Mapping[str, TopicEnds | None]


async def look_at_topics(settings: ProjectorSettings) -> Topics:
    """Where every topic ends that a projection reads.

    Raises:
        KafkaError, OSError, TimeoutError: no broker answered.
    """
    topics = {projection.subject.topic(settings) for projection in PROJECTIONS.values()}
    return {topic: await look_at_topic(settings, topic, settings.topic_partitions) for topic in topics}


async def measure(settings: ProjectorSettings, database: Database) -> list[GenerationLag]:
    """Every generation, of the projections that this code knows, that is not retired.

    Raises:
        DatabaseUnavailableError, KafkaError, OSError, TimeoutError: a server did not answer.
    """
    return await measure_against(settings, database, await look_at_topics(settings))


async def measure_against(settings: ProjectorSettings, database: Database, there: Topics) -> list[GenerationLag]:
    """The same against topics that were looked at: the database alone is asked.

    Raises:
        DatabaseUnavailableError: it did not answer.
    """
    topics = {name: projection.subject.topic(settings) for name, projection in PROJECTIONS.items()}
    found = []
    async with database.connection() as connection:
        for name, topic in sorted(topics.items()):
            for generation in await generations.read(connection, name):
                if generation.status != "retired":
                    rows = await connection.fetch(_CHECKPOINTS, name, generation.number, topic)
                    silent = await unfed(connection, generation, topic, settings.topic_partitions)
                    state, reason = _state(generation, topic, silent, gone=there[topic] is None)
                    partitions, seen = _partitions(rows, there[topic], settings.topic_partitions)
                    found.append(
                        GenerationLag(
                            name,
                            generation.number,
                            generation.shape,
                            generation.status,
                            state,
                            reason,
                            partitions,
                            seen,
                        )
                    )
    return found


def _state(generation: Generation, topic: str, silent: Sequence[int], *, gone: bool) -> tuple[FeedState, str]:
    if generation.refusal is not None:
        return FeedState.REFUSED, why_refused(generation)
    if gone:
        return FeedState.TOPIC_GONE, why_gone(topic)
    if silent:
        return FeedState.UNASSIGNED, why_unfed(generation, silent)
    return FeedState.FED, ""


def _partitions(
    rows: Sequence[asyncpg.Record], there: TopicEnds | None, number: int
) -> tuple[list[PartitionLag], datetime | None]:
    """Each partition's lag, and the time up to which all of them were seen."""
    by_number: Mapping[int, asyncpg.Record] = {row["partition"]: row for row in rows}
    lags = [_partition(partition, by_number.get(partition), there) for partition in range(number)]
    seen = [row["seen_until"] for row in rows if row["seen_until"] is not None]
    return lags, min(seen, default=None) if len(seen) == number else None


def _partition(number: int, row: asyncpg.Record | None, there: TopicEnds | None) -> PartitionLag:
    if row is None:
        return PartitionLag(number, None if there is None else there.ends[number], None)
    comparable = there is not None and row["topic_id"] in {None, there.id}
    records = max(there.ends[number] - row["position"], 0) if there is not None and comparable else None
    return PartitionLag(number, records, None if row["seconds"] is None else max(row["seconds"], 0.0))
