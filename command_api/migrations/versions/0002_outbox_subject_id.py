"""The outbox names a subject, of whatever kind, and no user.

Unlike other migrations it must not run while the version before it serves: that one could not append or publish any
more. End the command API and the relay first.
"""

from alembic import op

revision: str = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    """Apply."""
    op.alter_column("outbox", "user_id", new_column_name="subject_id")


def downgrade() -> None:
    """Undo."""
    op.alter_column("outbox", "subject_id", new_column_name="user_id")
