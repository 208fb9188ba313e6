"""Generations, checkpoints, parked records."""

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "generations",
        sa.Column("projection", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("shape", sa.SmallInteger, nullable=False, comment="version of the projection's tables and documents"),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("projection", "generation", name="generations_pkey"),
        sa.CheckConstraint("status IN ('building', 'serving', 'standby', 'retired')", name="generations_status_check"),
        sa.CheckConstraint("generation > 0", name="generations_generation_check"),
    )
    op.create_index(
        "generations_serving_key",
        "generations",
        ["projection"],
        unique=True,
        postgresql_where=sa.text("status = 'serving'"),
    )
    op.create_table(
        "checkpoints",
        sa.Column("projection", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("seen_until", sa.DateTime(timezone=True)),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("projection", "generation", "topic", "partition", name="checkpoints_pkey"),
        _of_generation("checkpoints_generation_fkey"),
    )
    op.create_table(
        "parked_records",
        sa.Column("projection", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("record_offset", sa.BigInteger, nullable=False),
        sa.Column("user_id", sa.Uuid),
        sa.Column("error", sa.Text),
        sa.Column("key", sa.LargeBinary),
        sa.Column("headers", sa.LargeBinary, nullable=False, comment="JSON: [[name, base64 of the value or null], …]"),
        sa.Column("value", sa.LargeBinary),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, comment="the record's own timestamp"),
        sa.Column("parked_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint(
            "projection", "generation", "topic", "partition", "record_offset", name="parked_records_pkey"
        ),
        _of_generation("parked_records_generation_fkey"),
    )
    op.create_index("parked_records_user_id_idx", "parked_records", ["projection", "generation", "user_id"])


def downgrade() -> None:
    """Undo."""
    op.drop_table("parked_records")
    op.drop_table("checkpoints")
    op.drop_table("generations")


def _of_generation(name: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["projection", "generation"],
        ["generations.projection", "generations.generation"],
        name=name,
        ondelete="CASCADE",
    )
