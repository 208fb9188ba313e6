"""Subscribers, and looks at the log: what receipts of erasures say beside the read tables."""

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "subscribers",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("owner", sa.LargeBinary, nullable=False, comment="SHA-256 of the caller who registered it"),
        sa.Column("consumer_group", sa.Text),
        sa.Column("actor", sa.Text, comment="who registered it, as events name actors"),
        sa.Column("registered_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("topic_id", sa.Uuid),
        sa.Column("offsets", sa.ARRAY(sa.BigInteger)),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("name", name="subscribers_pkey"),
    )
    op.create_table(
        "erasure_looks",
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("expected_by", sa.DateTime(timezone=True), nullable=False),
        sa.Column("topic_id", sa.Uuid, comment="which log is looked at"),
        sa.Column("looked_at", sa.DateTime(timezone=True)),
        sa.Column("forgotten", sa.Boolean, comment="null before the first look"),
        sa.PrimaryKeyConstraint("user_id", name="erasure_looks_pkey"),
    )
    op.create_index(
        "erasure_looks_due_idx", "erasure_looks", ["expected_by"], postgresql_where=sa.text("forgotten IS NOT TRUE")
    )


def downgrade() -> None:
    """Undo; subscribers register again."""
    for table in ("erasure_looks", "subscribers"):
        op.drop_table(table)
