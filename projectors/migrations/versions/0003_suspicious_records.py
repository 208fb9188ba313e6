"""Records that are suspicious, values that are kept once, and users whose earlier records do not count."""

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "parked_values",
        sa.Column("digest", sa.LargeBinary, nullable=False, comment="SHA-256 of the value"),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="parked_values_pkey"),
    )
    op.add_column(
        "parked_records",
        sa.Column("suspect_id", sa.Uuid, comment="whom a suspicious record names; nobody waits behind it"),
    )
    op.add_column("parked_records", sa.Column("value_digest", sa.LargeBinary))
    op.create_index("parked_records_value_digest_idx", "parked_records", ["value_digest"])
    op.create_table(
        "parked_versions",
        sa.Column("projection", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("projection", "generation", "user_id", name="parked_versions_pkey"),
        _of_generation("parked_versions_generation_fkey"),
    )
    op.create_table(
        "counted_records",
        sa.Column("projection", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("topic", sa.Text, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("records", sa.BigInteger, nullable=False),
        sa.Column("first_offset", sa.BigInteger, nullable=False),
        sa.Column("last_offset", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("projection", "generation", "topic", "partition", name="counted_records_pkey"),
        _of_generation("counted_records_generation_fkey"),
    )
    op.create_table(
        "repaired_users",
        sa.Column("topic_id", sa.Uuid, nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False, comment="the user's records before it do not count"),
        sa.Column("repaired_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("topic_id", "partition", "user_id", name="repaired_users_pkey"),
    )
    op.add_column(
        "checkpoints",
        sa.Column("repaired_until", sa.BigInteger, comment="the greatest position of the partition's repaired users"),
    )


def downgrade() -> None:
    """Undo; what was parked is kept, and what is suspicious still holds nobody back."""
    op.drop_column("checkpoints", "repaired_until")
    for table in ("repaired_users", "counted_records", "parked_versions"):
        op.drop_table(table)
    op.execute("UPDATE parked_records p SET value = v.value FROM parked_values v WHERE v.digest = p.value_digest")
    op.drop_index("parked_records_value_digest_idx")
    op.drop_column("parked_records", "value_digest")
    op.drop_column("parked_records", "suspect_id")
    op.drop_table("parked_values")


def _of_generation(name: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["projection", "generation"],
        ["generations.projection", "generations.generation"],
        name=name,
        ondelete="CASCADE",
    )
