"""The settings that a feed is given by the process that runs it."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.settings import Kafka, Topics


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSettings:
    """The settings of every feed of a process; projectors/settings.py says where they come from."""

    kafka: Kafka
    topics: Topics
    #: Begins the names of the consumer groups.
    group: str
    #: Records of one transaction.
    batch_records: int
    #: A feed that has just started is ready once it is no more records a partition behind than this.
    ready_lag_records: int
