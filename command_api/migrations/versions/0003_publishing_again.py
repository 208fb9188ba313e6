"""What publishing once more needs: which event erased a user, and which topics were published to."""

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "erased_users",
        sa.Column("event_id", sa.Uuid, comment="of the erasure; null for those from before it was kept"),
    )
    op.create_table(
        "published_topics",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("partitions", sa.Integer, nullable=False),
        sa.Column(
            "led_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.now(),
            comment="by a relay, last",
        ),
        sa.Column(
            "refilling", sa.Uuid, comment="the id of the topic that a refill has begun to fill; null without one"
        ),
        sa.Column("refilled_to", sa.Uuid, comment="the last subject that it has appended"),
        sa.PrimaryKeyConstraint("name", name="published_topics_pkey"),
    )


def downgrade() -> None:
    """Undo."""
    op.drop_table("published_topics")
    op.drop_column("erased_users", "event_id")
