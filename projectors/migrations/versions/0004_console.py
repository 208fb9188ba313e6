"""What the console keeps: sign-ins, links to sign in with, and what was done there."""

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    """Apply."""
    for table, what in (("console_sessions", "the cookie's id"), ("console_links", "what the link has in it")):
        op.create_table(
            table,
            sa.Column("digest", sa.LargeBinary, nullable=False, comment=f"SHA-256 of {what}"),
            sa.Column("sealed", sa.LargeBinary, nullable=False),
            sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
            sa.PrimaryKeyConstraint("digest", name=f"{table}_pkey"),
        )
        op.create_index(f"{table}_expires_at_idx", table, ["expires_at"])
    revealed: sa.Column[list[object]] = sa.Column(
        "revealed", sa.ARRAY(sa.Uuid), nullable=False, server_default=sa.text("'{}'"), comment="users shown in clear"
    )
    op.add_column("console_sessions", revealed)
    op.create_table(
        "console_operations",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.Column("actor", sa.Text, comment="null where access was off"),
        sa.Column("deed", sa.Text, nullable=False),
        sa.Column("targets", sa.ARRAY(sa.Text), nullable=False, comment="ids of users, or what else it was done to"),
        sa.Column("outcome", sa.Text, comment="null where it is under way, or where nobody knows"),
        sa.PrimaryKeyConstraint("id", name="console_operations_pkey"),
    )


def downgrade() -> None:
    """Undo; who is signed in signs in again, and what was done is not known any more."""
    for table in ("console_operations", "console_links", "console_sessions"):
        op.drop_table(table)
