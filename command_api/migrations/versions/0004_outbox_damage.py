"""A row of the outbox that cannot be published is named, and can be set aside."""

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    """Apply."""
    op.add_column("outbox", sa.Column("damage", sa.Text, comment="why the relay cannot publish it"))
    op.create_index("outbox_damage_idx", "outbox", ["id"], postgresql_where=sa.text("damage IS NOT NULL"))
    op.create_table(
        "outbox_set_aside",
        sa.Column("id", sa.BigInteger, nullable=False, comment="in the outbox"),
        sa.Column("event_id", sa.Uuid),
        sa.Column("subject_id", sa.Uuid, nullable=False, comment="whose later events wait"),
        sa.Column("value", sa.LargeBinary),
        sa.Column("headers", sa.LargeBinary),
        sa.Column("appended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("damage", sa.Text, nullable=False),
        sa.Column("set_aside_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="outbox_set_aside_pkey"),
    )


def downgrade() -> None:
    """Undo; what is set aside goes back first."""
    op.execute(
        "INSERT INTO outbox (id, event_id, subject_id, value, headers, appended_at) OVERRIDING SYSTEM VALUE"
        " SELECT id, event_id, subject_id, value, headers, appended_at FROM outbox_set_aside"
    )
    op.drop_table("outbox_set_aside")
    op.drop_index("outbox_damage_idx", "outbox")
    op.drop_column("outbox", "damage")
