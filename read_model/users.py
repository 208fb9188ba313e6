"""The `users` projection's tables: one row a user, with the document ready to send, and what stays of the erased.

Columns beside the document are those that filters and sorts use. Keys are text_key() of the name or address and compare
by code point. Neither key is unique here: two users' events come from two partitions, so the new owner of a freed
address may arrive before the old one has left it.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import BigInteger, Column, DateTime, Index, LargeBinary, MetaData, Table, Text, Uuid

PROJECTION: Final = "users"
#: Grows with every change of these tables or of the document; a generation of another shape is rebuilt, not altered.
SHAPE: Final = 1
#: Projectors notify here after a commit: the ids whose rows moved, separated by spaces, or nothing for "many".
CHANNEL: Final = "muster_users_moved"


@dataclass(frozen=True, slots=True)
class UsersTables:
    """The tables of one generation."""

    metadata: MetaData
    users: Table
    erased: Table


def users_tables(generation: int) -> UsersTables:
    """The definition of a generation's tables; names end in the generation's number."""
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
        Index(f"{name}_created_at_idx", "created_at", "id"),
        Index(f"{name}_updated_at_idx", "updated_at", "id"),
        Index(f"{name}_username_key_idx", "username_key", "id"),
        Index(f"{name}_email_key_idx", "email_key", "id"),
    )
    erased = Table(
        f"{name}_erased",
        metadata,
        Column("id", Uuid, primary_key=True),
        Column("version", BigInteger, nullable=False),
    )
    return UsersTables(metadata, users, erased)
