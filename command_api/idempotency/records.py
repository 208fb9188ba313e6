"""Stored answers: what a command answered to an Idempotency-Key, so that a retry gets the same and runs nothing.

A record is written in the command's own transaction. Neither the key nor the request is in it, only HMACs of them: a
client may have put personal data into its key, and a plain hash would let passwords be guessed from the table.
"""

from typing import Final

from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    Index,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Uuid,
    func,
)

KEY_IS_UNIQUE: Final = "idempotency_records_pkey"

metadata = MetaData()

#: Where the subject was erased, status is 410 and nothing else of the answer is left.
idempotency_records = Table(
    "idempotency_records",
    metadata,
    Column("digest", LargeBinary, nullable=False, comment="HMAC of method, path and key"),
    Column("fingerprint", LargeBinary, comment="HMAC of the canonical request; null once the subject was erased"),
    Column("subject_id", Uuid, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("body", LargeBinary),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("digest", name=KEY_IS_UNIQUE),
    Index("idempotency_records_subject_id_idx", "subject_id"),
    Index("idempotency_records_created_at_idx", "created_at"),
)
