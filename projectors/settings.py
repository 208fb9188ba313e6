"""The settings of a projectors process: the query database, Kafka, topics, and its limits."""

from __future__ import annotations

from pydantic import Field

from chassis.settings import Kafka, Logging, OperatorQueryPostgres, ProjectorsPostgres, Settings, Topics, Transport
from chassis.tracing.settings import Tracing
from projectors.consumer.feed_settings import FeedSettings


class ProjectorsGroup(Settings):
    """The names of the consumer groups."""

    #: The beginning of the consumer groups' names. Two installations that share brokers need different ones: members of
    #: one group share its partitions, whatever database they write to.
    projectors_group: str = Field(
        "muster", validation_alias="PROJECTORS_GROUP", pattern=r"^[A-Za-z0-9._-]{1,100}$", examples=["muster"]
    )


class ProjectorSettings(ProjectorsPostgres, Kafka, Topics, Logging, Transport, Tracing, ProjectorsGroup):
    """The settings of `muster project`."""

    projectors_http_host: str = Field("127.0.0.1", validation_alias="PROJECTORS_HTTP_HOST", examples=["127.0.0.1"])
    projectors_http_port: int = Field(8003, ge=1, le=65535, validation_alias="PROJECTORS_HTTP_PORT", examples=[8003])
    #: Records of one database transaction. Larger batches gain little (measured: 1,000 reach 90 % of 5,000's rate) and
    #: hold row locks and memory longer.
    projectors_batch_records: int = Field(
        1000, ge=1, le=100_000, validation_alias="PROJECTORS_BATCH_RECORDS", examples=[1000]
    )
    #: A process that has just started is ready once it is no more records behind in each partition than this.
    projectors_ready_lag_records: int = Field(
        1000, ge=0, validation_alias="PROJECTORS_READY_LAG_RECORDS", examples=[1000]
    )
    #: A loop that has not turned for this long hangs: the process logs it and ends, so that its supervisor restarts it.
    projectors_stall_seconds: float = Field(
        120.0, ge=5, le=3600, validation_alias="PROJECTORS_STALL_SECONDS", examples=[120]
    )

    @property
    def feed(self) -> FeedSettings:
        """The part that a feed is given."""
        return FeedSettings(
            kafka=self,
            topics=self,
            group=self.projectors_group,
            batch_records=self.projectors_batch_records,
            ready_lag_records=self.projectors_ready_lag_records,
        )


class OperatorProjectorSettings(OperatorQueryPostgres, ProjectorSettings):
    """The same for an operator's commands, which look at feeds and build generations."""
