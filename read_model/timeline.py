"""The `timeline` projection's tables: one ready-to-send entry an event, and where each user stands.

Entries are a set: one that comes late, or twice, ends up in its place all the same. The erased keep an id and a
version.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, PrimaryKeyConstraint, Table, Uuid

PROJECTION: Final = "timeline"
#: Grows with every change of these tables or of an entry's document.
SHAPE: Final = 1
#: Projectors notify here after a commit: the ids of users whose timelines moved, separated by spaces, or nothing for
#: "many".
CHANNEL: Final = "muster_timeline_moved"


@dataclass(frozen=True, slots=True)
class TimelineTables:
    """The tables of one generation."""

    metadata: MetaData
    entries: Table
    users: Table


def timeline_tables(generation: int) -> TimelineTables:
    """The definition of a generation's tables, named after its number."""
    metadata = MetaData()
    name = f"timeline_g{generation}"
    entries = Table(
        name,
        metadata,
        Column("user_id", Uuid, nullable=False),
        Column("version", BigInteger, nullable=False),
        Column("document", LargeBinary, nullable=False, comment="the entry as the query API sends it: JSON, UTF-8"),
        PrimaryKeyConstraint("user_id", "version", name=f"{name}_pkey"),
    )
    users = Table(
        f"{name}_users",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("version", BigInteger, nullable=False, comment="the newest version that has been applied"),
        Column("erased_version", BigInteger, comment="set once the person was erased; equal to version while they are"),
    )
    return TimelineTables(metadata, entries, users)
