"""A success no longer deletes the failures before it: they count towards the most of a window.

The version before this one knows nothing of them: while it runs beside this one, its successes delete the row.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0008"
down_revision: str | None = "0007"

_WAS = "the newest failures, the last first"
_IS = "failures since the last success"
_TIMES = postgresql.ARRAY(sa.DateTime(timezone=True))


def upgrade() -> None:
    """Apply."""
    op.alter_column("credential_attempts", "failed_at", comment=_IS, existing_comment=_WAS)
    op.add_column(
        "credential_attempts",
        sa.Column(
            "forgiven_at",
            _TIMES,
            nullable=False,
            server_default="{}",
            comment="failures before it; they count only towards the most of a window",
        ),
    )


def downgrade() -> None:
    """Undo; a row without failures of its own means nothing to the version before."""
    op.execute("DELETE FROM credential_attempts WHERE cardinality(failed_at) = 0")
    op.drop_column("credential_attempts", "forgiven_at")
    op.alter_column("credential_attempts", "failed_at", comment=_WAS, existing_comment=_IS)
