"""Credentials: which event set a password, users without one, counters of failed attempts, and one-time tokens."""

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"


def upgrade() -> None:
    """Apply."""
    op.alter_column("users", "password_hash", nullable=True, comment="null for who was imported without a password")
    op.add_column(
        "users",
        sa.Column(
            "password_set_by",
            sa.Uuid,
            comment="the event that set the password; null for those from before it was kept",
        ),
    )
    _create_attempts()
    _create_tokens()


def downgrade() -> None:
    """Undo. Refused while somebody has no password."""
    op.drop_table("one_time_tokens")
    op.drop_table("credential_attempts")
    op.drop_column("users", "password_set_by")
    op.alter_column("users", "password_hash", nullable=False, comment=None)


def _create_attempts() -> None:
    op.create_table(
        "credential_attempts",
        sa.Column("counter", sa.LargeBinary, nullable=False, comment="an HMAC: whose attempts are counted"),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column(
            "failed_at",
            sa.ARRAY(sa.DateTime(timezone=True)),
            nullable=False,
            comment="the newest failures, the last first",
        ),
        sa.Column("refused_until", sa.DateTime(timezone=True), comment="until then attempts are refused unread"),
        sa.Column(
            "expires_at", sa.DateTime(timezone=True), nullable=False, comment="from then on the row means nothing"
        ),
        sa.PrimaryKeyConstraint("counter", name="credential_attempts_pkey"),
        sa.CheckConstraint("kind IN ('identifier', 'device', 'self')", name="credential_attempts_kind_check"),
    )


def _create_tokens() -> None:
    op.create_table(
        "one_time_tokens",
        sa.Column("digest", sa.LargeBinary, nullable=False, comment="SHA-256 of the token"),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column(
            "bound_to", sa.LargeBinary, nullable=False, comment="what the user must still have: password or address"
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="one_time_tokens_pkey"),
        sa.UniqueConstraint("user_id", "purpose", name="one_time_tokens_user_id_purpose_unique"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="one_time_tokens_user_id_fkey", ondelete="CASCADE"),
        sa.CheckConstraint("purpose IN ('password-reset', 'email-verification')", name="one_time_tokens_purpose_check"),
    )
    op.create_index("one_time_tokens_expires_at_idx", "one_time_tokens", ["expires_at"])
