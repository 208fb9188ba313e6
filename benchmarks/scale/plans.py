"""A plan, and what it takes: processes, cores, disks."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Final

from benchmarks.scale import measured

#: Of what was measured at full load, how much is planned for: the rest is for waves, a machine that is away, and other
#: machines than that of the figures.
LOAD: Final = 0.5
#: The mean of a day's rate is this part of its peak.
MEAN: Final = 1 / 3
#: Commands that hash a password: registrations and changes of one.
HASHING: Final = 0.1
#: The largest PostgreSQL that is planned for.
MOST_CORES: Final = 32
#: Copies on three brokers, and days until Kafka has compacted (TOPIC_MAX_COMPACTION_LAG_MS).
COPIES: Final = 3
COMPACTED_DAYS: Final = 8
_DAY: Final = 86_400
_GB: Final = 1e9


@dataclass(frozen=True, slots=True)
class Plan:
    """Users, and commands and queries a second at the peak."""

    users: int
    commands: int
    queries: int


PLANS: Final = (Plan(10**6, 10**3, 10**4), Plan(10**8, 10**4, 10**5), Plan(10**9, 10**5, 10**6))


@dataclass(frozen=True, slots=True)
class Needs:
    """What a plan takes, over all shards, but for the rebuild. Disks are of one copy, but Kafka's."""

    command_shards: int
    command_api_cores: int
    command_database_cores: int
    projector_cores: int
    query_primary_cores: int
    query_api_cores: int
    query_database_cores: int
    command_database_gb: float
    query_database_gb: float
    timeline_gb_a_year: float
    kafka_gb: float
    #: Of one installation's users, by one process.
    rebuild_minutes: float


def cores(rate: float, of_one: float) -> int:
    """How many cores do so much a second, at the planned load."""
    return max(1, ceil(rate / (of_one * LOAD)))


def shards(plan: Plan) -> int:
    """How many installations: each with one relay, and two primaries of at most MOST_CORES.

    One primary takes what all projectors write, however many standbys answer queries beside it. A projector kept a core
    of PostgreSQL as busy as its own.
    """
    most = min(measured.RELAYED, measured.COMMITS * MOST_CORES, measured.APPLIED * MOST_CORES) * LOAD
    return ceil(plan.commands / most)


def needs(plan: Plan) -> Needs:
    """What it takes."""
    events_a_day = plan.commands * MEAN * _DAY
    hashing = plan.commands * HASHING
    return Needs(
        command_shards=shards(plan),
        command_api_cores=cores(hashing, measured.HASHES) + cores(plan.commands - hashing, measured.CHANGES),
        command_database_cores=cores(plan.commands, measured.COMMITS),
        projector_cores=cores(plan.commands, measured.APPLIED),
        query_api_cores=cores(plan.queries, measured.PAGES),
        query_primary_cores=cores(plan.commands, measured.APPLIED),
        # Beside the API PostgreSQL was as busy: each had a core.
        query_database_cores=cores(plan.queries, measured.PAGES),
        command_database_gb=plan.users * measured.COMMAND_USER / _GB,
        query_database_gb=plan.users * measured.QUERY_USER / _GB,
        timeline_gb_a_year=events_a_day * 365 * measured.TIMELINE_ENTRY / _GB,
        kafka_gb=COPIES * measured.EVENT * (events_a_day * COMPACTED_DAYS + plan.users) / _GB,
        rebuild_minutes=plan.users / shards(plan) / measured.REBUILT / 60,
    )
