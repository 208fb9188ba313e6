"""The users' tables of the command database: current state, and what stays of the erased.

A field of the public user has the column of its name (command_api/users/rows.py). Keys are text_key() of the address or
name: made in Python, compared by code point, unique. command_api/users/store.py maps the constraints' names to
refusals.
"""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)

USERS_PRIMARY_KEY: Final = "users_pkey"
EMAIL_IS_UNIQUE: Final = "users_email_key_unique"
USERNAME_IS_UNIQUE: Final = "users_username_key_unique"

users_metadata = MetaData()

#: `version` grows by one with each event; `event_id` is the newest, and proves its commit where the reply was lost.
#: `attributes` is json, not jsonb: jsonb rewrites numbers (1e300 becomes an integer of 301 digits).
users = Table(
    "users",
    users_metadata,
    Column("id", Uuid, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("event_id", Uuid, nullable=False),
    Column("status", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("email_key", Text(collation="C"), nullable=False),
    Column("email_verified", Boolean, nullable=False),
    Column("username", Text, nullable=False),
    Column("username_key", Text(collation="C"), nullable=False),
    Column("display_name", Text),
    Column("attributes", JSON, nullable=False),
    Column("password_hash", Text, comment="null for who was imported without a password"),
    Column("password_set_by", Uuid, comment="the event that set the password; null for those from before it was kept"),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("id", name=USERS_PRIMARY_KEY),
    UniqueConstraint("email_key", name=EMAIL_IS_UNIQUE),
    UniqueConstraint("username_key", name=USERNAME_IS_UNIQUE),
    CheckConstraint("version > 0", name="users_version_check"),
    CheckConstraint("status IN ('active', 'deactivated')", name="users_status_check"),
    # Most changes touch no indexed column: with room left on the page they write no index entries.
    postgresql_with={"fillfactor": "85"},
)

#: A bare id and its final version, so that retries of an erasure and tokens keep working. Nothing personal.
erased_users = Table(
    "erased_users",
    users_metadata,
    Column("id", Uuid, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("erased_at", DateTime(timezone=True), nullable=False),
    Column("event_id", Uuid, comment="of the erasure; null for those from before it was kept"),
    PrimaryKeyConstraint("id", name="erased_users_pkey"),
)
