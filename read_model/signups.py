"""The `signups` projection's tables: how many of the users that exist registered on each UTC day, by status.

The counters are a sum over one row for each user: a user whose event is applied twice is counted once, a deactivated
user moves to the other counter, and an erased user leaves both. A day without users may have no row, or a row of zeros.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from read_model.schema import GenerationTables, ProjectionSchema

if TYPE_CHECKING:
    from sqlalchemy import Table


@dataclass(frozen=True, slots=True)
class SignupsTables(GenerationTables):
    """The tables of one generation."""

    days: Table
    users: Table


def signups_tables(generation: int) -> SignupsTables:
    """The definition of a generation's tables, named after its number."""
    from sqlalchemy import BigInteger, Column, Date, MetaData, Table, Text, Uuid  # noqa: PLC0415 - it takes 15 MB, and tables are seldom made

    metadata = MetaData()
    name = f"signups_g{generation}"
    days = Table(
        name,
        metadata,
        Column("day", Date, primary_key=True),
        Column("active", BigInteger, nullable=False),
        Column("deactivated", BigInteger, nullable=False),
    )
    users = Table(
        f"{name}_users",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("version", BigInteger, nullable=False, comment="the newest version that has been applied"),
        Column("day", Date, comment="null once the person was erased"),
        Column("status", Text, comment="null once the person was erased"),
    )
    return SignupsTables(metadata, (users,), ("day IS NULL",), days, users)


SCHEMA: Final = ProjectionSchema(name="signups", shape=1, channel="muster_signups_moved", tables=signups_tables)
