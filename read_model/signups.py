"""The `signups` projection's tables: how many of the users that exist registered on each UTC day, by status.

The counters are a sum over one row a user, so that a user who comes again is not counted again, one who is deactivated
moves, and one who is erased is gone. A day without users may have no row, or a row of zeros.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import BigInteger, Column, Date, MetaData, Table, Text, Uuid

PROJECTION: Final = "signups"
#: Grows with every change of these tables.
SHAPE: Final = 1
#: Projectors notify here after a commit: the ids of users whose rows moved, separated by spaces, or nothing for "many".
CHANNEL: Final = "muster_signups_moved"


@dataclass(frozen=True, slots=True)
class SignupsTables:
    """The tables of one generation."""

    metadata: MetaData
    days: Table
    users: Table


def signups_tables(generation: int) -> SignupsTables:
    """The definition of a generation's tables, named after its number."""
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
    return SignupsTables(metadata, days, users)
