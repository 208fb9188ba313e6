"""Stored answers: the table, and the SQL that stores, loads and forgets an answer.

A record is written in the command's own transaction, from the row that the command wrote: `INSERT INTO
idempotency_records SELECT ... FROM u`. Where the command wrote no row, no answer is stored. The relay deletes old
records (command_api/idempotency/purge.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    CTE,
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
    bindparam,
    func,
    insert,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningInsert

from chassis.postgres.statements import compile_statement
from command_api.idempotency.keys import IdempotencyKey
from command_api.idempotency.replay import CommandAnswer, StoredAnswer

KEY_IS_UNIQUE: Final = "idempotency_records_pkey"

records_metadata = MetaData()

#: Where the subject was erased, status is 410 and nothing else of the answer is left.
idempotency_records = Table(
    "idempotency_records",
    records_metadata,
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

#: What a command gives; created_at is the database's.
_STORED: Final = [column for column in idempotency_records.columns if column.name != "created_at"]
#: What `stored_answer` reads.
ANSWER_COLUMNS: Final = [
    idempotency_records.c[name].label(f"answer_{name}") for name in ("status", "headers", "body", "fingerprint")
]
DIGEST: Final = bindparam("digest", type_=idempotency_records.c.digest.type)
LOAD_ANSWER: Final = compile_statement(select(*ANSWER_COLUMNS).where(idempotency_records.c.digest == DIGEST))
#: What was answered about the erased is forgotten; that a key was used is not.
FORGET_ANSWERS: Final = compile_statement(
    update(idempotency_records)
    .where(idempotency_records.c.subject_id == bindparam("subject_id", type_=idempotency_records.c.subject_id.type))
    .values(status=410, fingerprint=null(), headers=literal_column("'{}'"), body=null())
)


class KeyTakenError(Exception):
    """Another process has stored an answer for the same key a moment ago."""


@dataclass(frozen=True, slots=True)
class AnswerToStore:
    """An answer and the key it is stored under."""

    key: IdempotencyKey
    subject_id: UUID
    answer: CommandAnswer

    def arguments(self) -> dict[str, Any]:
        """The named arguments of `store_from`."""
        return {
            "answer_digest": self.key.digest,
            "answer_fingerprint": self.key.fingerprint,
            "answer_subject_id": self.subject_id,
            "answer_status": self.answer.status,
            "answer_headers": json.dumps(self.answer.headers),
            "answer_body": self.answer.body,
        }


def store_from(source: CTE) -> ReturningInsert[tuple[bytes]]:
    """The INSERT that stores one answer for each row of `source`; its parameters are those of an `AnswerToStore`."""
    parameters = [bindparam(f"answer_{column.name}", type_=column.type) for column in _STORED]
    stored = insert(idempotency_records).from_select(_STORED, select(*parameters).select_from(source))
    return stored.returning(idempotency_records.c.digest)


def stored_answer(row: Any) -> StoredAnswer | None:
    """The answer in a row with ANSWER_COLUMNS; None where an outer join found no record."""
    if row["answer_status"] is None:
        return None
    answer = CommandAnswer(row["answer_status"], json.loads(row["answer_headers"]), row["answer_body"])
    return StoredAnswer(answer, row["answer_fingerprint"])
