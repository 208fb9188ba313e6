"""The `timeline` projection's tables: one entry for each event, and the version of each user.

Beside what changed, an entry says who changed it and how the event came here. Entries are a set: one that arrives late,
or twice, still ends up in its place. An erased user keeps an id and a version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from read_model.schema import GenerationTables, ProjectionSchema

if TYPE_CHECKING:
    from sqlalchemy import Table


@dataclass(frozen=True, slots=True)
class TimelineTables(GenerationTables):
    """The tables of one generation."""

    entries: Table
    users: Table


def timeline_tables(generation: int) -> TimelineTables:
    """The definition of a generation's tables, named after its number."""
    from sqlalchemy import (  # noqa: PLC0415 - it takes 15 MB, and tables are seldom made
        BigInteger,
        Column,
        DateTime,
        Integer,
        LargeBinary,
        MetaData,
        PrimaryKeyConstraint,
        Table,
        Text,
        Uuid,
    )

    metadata = MetaData()
    name = f"timeline_g{generation}"
    entries = Table(
        name,
        metadata,
        Column("user_id", Uuid, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("document", LargeBinary, nullable=False, comment="what changed, as the query API sends it: JSON, UTF-8"),
        # All of these are null in an entry that was carried over from shape 1, which did not have them.
        Column("actor", Text, comment="null where access was off"),
        Column("on_behalf_of", Text),
        Column("partition", Integer),
        Column("record_offset", BigInteger),
        Column("committed_at", DateTime(timezone=True), comment="ce_time"),
        Column("published_at", DateTime(timezone=True), comment="the record's own timestamp"),
        Column("applied_at", DateTime(timezone=True)),
        PrimaryKeyConstraint("user_id", "version", name=f"{name}_pkey"),
    )
    users = Table(
        f"{name}_users",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("version", BigInteger, nullable=False, comment="the newest version that has been applied"),
        Column("erased_version", BigInteger, comment="set once the person was erased; equal to version while they are"),
    )
    return TimelineTables(metadata, (users,), ("erased_version IS NOT DISTINCT FROM version",), entries, users)


SCHEMA: Final = ProjectionSchema(name="timeline", shape=2, channel="muster_timeline_moved", tables=timeline_tables)
