"""What was answered to commands that changed nothing is stored once for a user, however many keys it was answered to.

While the version before this one runs beside it, that one repeats such an answer without its body.
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"

_DIGEST_WAS = "HMAC of method, path and key"
_DIGEST_IS = "HMAC of caller, method, path and key"


def upgrade() -> None:
    """Apply."""
    op.alter_column("idempotency_records", "digest", comment=_DIGEST_IS, existing_comment=_DIGEST_WAS)
    op.add_column(
        "idempotency_records",
        sa.Column("body_digest", sa.LargeBinary, comment="of the body in idempotency_bodies, where that has it"),
    )
    op.create_table(
        "idempotency_bodies",
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False, comment="SHA-256 of the body"),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column(
            "used_at", sa.DateTime(timezone=True), nullable=False, comment="by a record, last; noted once an hour"
        ),
        sa.PrimaryKeyConstraint("subject_id", "digest", name="idempotency_bodies_pkey"),
        # The version before this one knows nothing of this table, and erases users, too.
        sa.ForeignKeyConstraint(
            ["subject_id"], ["users.id"], name="idempotency_bodies_subject_id_fkey", ondelete="CASCADE"
        ),
    )
    op.create_index("idempotency_bodies_used_at_idx", "idempotency_bodies", ["used_at"])


def downgrade() -> None:
    """Undo; each record gets its body first."""
    op.execute(
        "UPDATE idempotency_records r SET body = b.body FROM idempotency_bodies b"
        " WHERE b.subject_id = r.subject_id AND b.digest = r.body_digest"
    )
    op.drop_table("idempotency_bodies")
    op.drop_column("idempotency_records", "body_digest")
    op.alter_column("idempotency_records", "digest", comment=_DIGEST_WAS, existing_comment=_DIGEST_IS)
