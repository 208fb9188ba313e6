"""Stored answers: what a command answered to an Idempotency-Key, so that a retry gets the same and runs nothing.

A record is written in the command's own transaction. Neither the key nor the request is in it, only HMACs of them: a
client may have put personal data into its key, and a plain hash would let passwords be guessed from the table.
"""

from datetime import timedelta
from typing import Any, Final

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

from chassis.database import COMMAND_SECONDS

KEY_IS_UNIQUE: Final = "idempotency_records_pkey"
#: How long an answer is replayed at least; after that the key is free again.
KEPT: Final = timedelta(hours=24)
#: Rows of one purge: short enough that its locks and its WAL disturb nobody.
PURGE_ROWS: Final = 1000

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

_PURGE = """
DELETE FROM idempotency_records WHERE digest = ANY (ARRAY(
    SELECT digest FROM idempotency_records WHERE created_at < now() - $1::interval
    ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
))
"""


async def purge(connection: Any, older_than: timedelta = KEPT, batch: int = PURGE_ROWS) -> int:
    """Delete at most `batch` records older than that, the oldest first; say how many were deleted.

    Fewer than `batch` means that none is left. Locked records are left for the next time.
    """
    status: str = await connection.execute(_PURGE, older_than, batch, timeout=COMMAND_SECONDS)
    return int(status.rpartition(" ")[2])
