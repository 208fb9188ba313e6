"""Sessions of the console whose token an identity provider renews: who renews one claims its row for a while."""

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"


def upgrade() -> None:
    """Apply."""
    op.add_column(
        "console_sessions",
        sa.Column("renewing_until", sa.DateTime(timezone=True), comment="until then nobody else renews the token"),
    )


def downgrade() -> None:
    """Undo; sessions stay, and end with their tokens."""
    op.drop_column("console_sessions", "renewing_until")
