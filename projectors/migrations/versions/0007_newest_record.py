"""When the newest record before a checkpoint was appended, by which a log is known again."""

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"


def upgrade() -> None:
    """Apply; checkpoints from before take the log that is there for theirs."""
    newest = "when the newest record was appended, in milliseconds since 1970"
    op.add_column("checkpoints", sa.Column("newest", sa.BigInteger, comment=newest))
    op.add_column("checkpoints", sa.Column("newest_position", sa.BigInteger, comment="before which it is the newest"))


def downgrade() -> None:
    """Undo."""
    for column in ("newest_position", "newest"):
        op.drop_column("checkpoints", column)
