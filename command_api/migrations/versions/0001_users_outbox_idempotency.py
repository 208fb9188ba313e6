"""Users, what stays of the erased, the outbox, stored answers."""

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None


def upgrade() -> None:
    """Apply."""
    _create_users()
    _create_outbox()
    _create_idempotency_records()


def downgrade() -> None:
    """Undo."""
    op.drop_table("idempotency_records")
    op.drop_table("outbox")
    op.drop_table("erased_users")
    op.drop_table("users")


def _create_users() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("event_id", sa.Uuid, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("email_key", sa.Text(collation="C"), nullable=False),
        sa.Column("email_verified", sa.Boolean, nullable=False),
        sa.Column("username", sa.Text, nullable=False),
        sa.Column("username_key", sa.Text(collation="C"), nullable=False),
        sa.Column("display_name", sa.Text),
        sa.Column("attributes", sa.JSON, nullable=False),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="users_pkey"),
        sa.UniqueConstraint("email_key", name="users_email_key_unique"),
        sa.UniqueConstraint("username_key", name="users_username_key_unique"),
        sa.CheckConstraint("version > 0", name="users_version_check"),
        sa.CheckConstraint("status IN ('active', 'deactivated')", name="users_status_check"),
        postgresql_with={"fillfactor": "85"},
    )
    op.create_table(
        "erased_users",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="erased_users_pkey"),
    )


def _create_outbox() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True, cache=1), nullable=False),
        sa.Column("event_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("value", sa.LargeBinary, comment="null is a tombstone"),
        sa.Column("headers", sa.LargeBinary, nullable=False, comment="the envelope, as a Kafka record holds headers"),
        sa.Column("appended_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("id", name="outbox_pkey"),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": "0",
            "autovacuum_vacuum_threshold": "1000",
            "autovacuum_vacuum_insert_threshold": "-1",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )


def _create_idempotency_records() -> None:
    op.create_table(
        "idempotency_records",
        sa.Column("digest", sa.LargeBinary, nullable=False, comment="HMAC of method, path and key"),
        sa.Column(
            "fingerprint",
            sa.LargeBinary,
            comment="HMAC of the canonical request; null once the subject was erased",
        ),
        sa.Column("subject_id", sa.Uuid, nullable=False),
        sa.Column("status", sa.SmallInteger, nullable=False),
        sa.Column("headers", sa.JSON, nullable=False),
        sa.Column("body", sa.LargeBinary),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("digest", name="idempotency_records_pkey"),
    )
    op.create_index("idempotency_records_subject_id_idx", "idempotency_records", ["subject_id"])
    op.create_index("idempotency_records_created_at_idx", "idempotency_records", ["created_at"])
