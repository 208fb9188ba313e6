"""Which log a checkpoint belongs to, why a generation is refused, and no time that is still to come."""

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    """Apply."""
    op.add_column("generations", sa.Column("refusal", sa.Text, comment="why it must not be fed any more"))
    op.add_column("checkpoints", sa.Column("topic_id", sa.Uuid))
    op.add_column("checkpoints", sa.Column("record_offset", sa.BigInteger))
    op.add_column("checkpoints", sa.Column("record_id", sa.Uuid, comment="its ce_id"))
    # Records dated ahead, or a clock that was, left them.
    op.execute("UPDATE checkpoints SET seen_until = now() WHERE seen_until > now()")


def downgrade() -> None:
    """Undo."""
    for column in ("record_id", "record_offset", "topic_id"):
        op.drop_column("checkpoints", column)
    op.drop_column("generations", "refusal")
