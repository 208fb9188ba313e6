"""The tables of credentials in the command database: counters of failed attempts, and one-time tokens.

Neither has a name, an address or a token in clear: counters are found by an HMAC, tokens by a hash.
"""

from typing import Final

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)

from command_api.users.tables import users_metadata

#: The ways of attempts: by an identifier, from a known device, or by a token with `self`.
KINDS: Final = ("identifier", "device", "self")
#: The purposes of one-time tokens.
PURPOSES: Final = ("password-reset", "email-verification")
ONE_OF_A_PURPOSE: Final = "one_time_tokens_user_id_purpose_unique"


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"{column} IN ({', '.join(repr(value) for value in values)})"


#: A row is there from the first failure until it means nothing any more, or a success is not preceded by any.
credential_attempts = Table(
    "credential_attempts",
    users_metadata,
    Column("counter", LargeBinary, nullable=False, comment="an HMAC: whose attempts are counted"),
    Column("kind", Text, nullable=False),
    Column("failed_at", ARRAY(DateTime(timezone=True)), nullable=False, comment="failures since the last success"),
    Column(
        "forgiven_at",
        ARRAY(DateTime(timezone=True)),
        nullable=False,
        server_default="{}",
        comment="failures before it; they count only towards the most of a window",
    ),
    Column("refused_until", DateTime(timezone=True), comment="until then attempts are refused unread"),
    Column("expires_at", DateTime(timezone=True), nullable=False, comment="from then on the row means nothing"),
    PrimaryKeyConstraint("counter", name="credential_attempts_pkey"),
    CheckConstraint(_one_of("kind", KINDS), name="credential_attempts_kind_check"),
)

#: At most one of each purpose for a user. Erasing the user deletes it, too.
one_time_tokens = Table(
    "one_time_tokens",
    users_metadata,
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the token"),
    Column("user_id", Uuid, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("bound_to", LargeBinary, nullable=False, comment="what the user must still have: password or address"),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    PrimaryKeyConstraint("digest", name="one_time_tokens_pkey"),
    UniqueConstraint("user_id", "purpose", name=ONE_OF_A_PURPOSE),
    ForeignKeyConstraint(["user_id"], ["users.id"], name="one_time_tokens_user_id_fkey", ondelete="CASCADE"),
    CheckConstraint(_one_of("purpose", PURPOSES), name="one_time_tokens_purpose_check"),
    # The purge needs it.
    Index("one_time_tokens_expires_at_idx", "expires_at"),
)
