"""The `users` projection's tables: one row a user, with the document ready to send, and a row for each erased user.

An erased user's row says when they were erased, and where that stands on the topic. The columns beside the document are
those that filters and sorts use. chassis/text_keys.py makes the keys, which compare by code point. Neither key is
unique here: two users' events come from two partitions, so the new owner of a freed address may arrive before the old
one has left it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from read_model.schema import GenerationTables, ProjectionSchema

if TYPE_CHECKING:
    from sqlalchemy import Index, Table

#: Erasures are listed by this: those from before times were kept are the oldest.
ERASED_WHEN: Final = "coalesce(erased_at, '-infinity'::timestamptz)"


@dataclass(frozen=True, slots=True)
class UsersTables(GenerationTables):
    """The tables of one generation."""

    users: Table
    erased: Table


def users_tables(generation: int) -> UsersTables:
    """The definition of a generation's tables, named after its number."""
    from sqlalchemy import BigInteger, Column, DateTime, Index, Integer, LargeBinary, MetaData, Table, Text, Uuid, text  # noqa: PLC0415 - it takes 15 MB, and tables are seldom made

    metadata = MetaData()
    name = f"users_g{generation}"
    users = Table(
        name,
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("version", BigInteger, nullable=False),
        Column("status", Text, nullable=False),
        Column("email_key", Text(collation="C"), nullable=False),
        Column("username_key", Text(collation="C"), nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False),
        Column("updated_at", DateTime(timezone=True), nullable=False),
        Column("document", LargeBinary, nullable=False),
        *_indexes(name, "created_at"),
        *_indexes(name, "updated_at"),
        *_indexes(name, "username_key"),
        *_indexes(name, "email_key"),
    )
    erased = Table(
        f"{name}_erased",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("version", BigInteger, nullable=False),
        # All of these are null in a row that was carried over from a shape before 3, or that a repair wrote, until the
        # record of it is read.
        Column("erased_at", DateTime(timezone=True), comment="ce_time of the tombstone"),
        Column("topic", Text),
        Column("topic_id", Uuid, comment="which log of that name the position is on"),
        Column("partition", Integer),
        Column("record_offset", BigInteger, comment="of the tombstone"),
        Column("published_at", DateTime(timezone=True), comment="the record's own timestamp"),
        Index(f"{name}_erased_when_idx", text(ERASED_WHEN), "id"),
    )
    return UsersTables(metadata, (users, erased), ("false", "true"), users, erased)


def _indexes(table: str, column: str) -> tuple[Index, Index]:
    """A sort's index, and a second one of the deactivated users alone.

    Deactivated users are few. A page of them along the first index would read most of the table (measured at 1,000,000
    users with 2 % deactivated: 36,000 rows for a page of 50, against 51), and the second index costs writers little.
    """
    from sqlalchemy import Index, text  # noqa: PLC0415 - it takes 15 MB, and tables are seldom made

    return (
        Index(f"{table}_{column}_idx", column, "id"),
        Index(f"{table}_{column}_deactivated_idx", column, "id", postgresql_where=text("status = 'deactivated'")),
    )


SCHEMA: Final = ProjectionSchema(name="users", shape=3, channel="muster_users_moved", tables=users_tables)
