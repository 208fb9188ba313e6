"""Stored answers: the table, and the SQL that stores, loads and forgets an answer.

A record is written in the command's own transaction, from the row that the command wrote: `INSERT INTO
idempotency_records SELECT ... FROM u`. Where the command wrote no row, no answer is stored. A command that changed
nothing answers with the user as they were, as others have: their body is kept once, in `idempotency_bodies`, however
many keys it was answered to. The relay deletes what is old (command_api/idempotency/purge.py).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    CTE,
    JSON,
    Column,
    ColumnElement,
    DateTime,
    ForeignKeyConstraint,
    FromClause,
    Index,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Uuid,
    and_,
    bindparam,
    exists,
    func,
    insert,
    literal_column,
    null,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.dml import ReturningInsert

from chassis.postgres.statements import compile_statement
from command_api.idempotency.keys import IdempotencyKey
from command_api.idempotency.replay import CommandAnswer, StoredAnswer

KEY_IS_UNIQUE: Final = "idempotency_records_pkey"
#: A body's last use is noted once in so long: a row is written anew for it, and it is kept that much longer.
USE_NOTED: Final = timedelta(hours=1)

records_metadata = MetaData()

#: The stored answers. Once the subject is erased, status is 410 and nothing else of the answer is left.
idempotency_records = Table(
    "idempotency_records",
    records_metadata,
    Column("digest", LargeBinary, nullable=False, comment="HMAC of caller, method, path and key"),
    Column("fingerprint", LargeBinary, comment="HMAC of the canonical request; null once the subject was erased"),
    Column("subject_id", Uuid, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("headers", JSON, nullable=False),
    Column("body", LargeBinary),
    Column("body_digest", LargeBinary, comment="of the body in idempotency_bodies, where that has it"),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("digest", name=KEY_IS_UNIQUE),
    Index("idempotency_records_subject_id_idx", "subject_id"),
    Index("idempotency_records_created_at_idx", "created_at"),
)
#: The bodies of answers to commands that changed nothing. A body goes with its user, whichever release erases them.
idempotency_bodies = Table(
    "idempotency_bodies",
    records_metadata,
    Column("subject_id", Uuid, nullable=False),
    Column("digest", LargeBinary, nullable=False, comment="SHA-256 of the body"),
    Column("body", LargeBinary, nullable=False),
    Column("used_at", DateTime(timezone=True), nullable=False, comment="by a record, last; noted once an hour"),
    PrimaryKeyConstraint("subject_id", "digest", name="idempotency_bodies_pkey"),
    ForeignKeyConstraint(["subject_id"], ["users.id"], name="idempotency_bodies_subject_id_fkey", ondelete="CASCADE"),
    Index("idempotency_bodies_used_at_idx", "used_at"),
)

#: The columns that a command gives; created_at is the database's.
_STORED: Final = [column for column in idempotency_records.columns if column.name != "created_at"]
_READ: Final = ("status", "headers", "fingerprint", "body_digest")
#: The columns that `stored_answer` reads.
ANSWER_COLUMNS: Final = [
    *(idempotency_records.c[name].label(f"answer_{name}") for name in _READ),
    func.coalesce(idempotency_records.c.body, idempotency_bodies.c.body).label("answer_body"),
]
DIGEST: Final = bindparam("digest", type_=idempotency_records.c.digest.type)
_SUBJECT_ID: Final = bindparam("subject_id", type_=idempotency_records.c.subject_id.type)


def with_bodies(records: FromClause) -> FromClause:
    """`records`, joined with the shared bodies where a record has one."""
    bodies = idempotency_bodies.c
    is_its = and_(
        bodies.subject_id == idempotency_records.c.subject_id, bodies.digest == idempotency_records.c.body_digest
    )
    return records.outerjoin(idempotency_bodies, is_its)


LOAD_ANSWER: Final = compile_statement(
    select(*ANSWER_COLUMNS).select_from(with_bodies(idempotency_records)).where(idempotency_records.c.digest == DIGEST)
)
#: Answers about the erased are forgotten; that a key was used is not. Shared bodies go with the user's row.
FORGET_ANSWERS: Final = compile_statement(
    update(idempotency_records)
    .where(idempotency_records.c.subject_id == _SUBJECT_ID)
    .values(status=410, fingerprint=null(), headers=literal_column("'{}'"), body=null(), body_digest=null())
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

    def shared_arguments(self) -> dict[str, Any]:
        """The named arguments of `share_from`."""
        assert self.answer.body is not None, "an answer without a body has nothing to share"
        return {**self.arguments(), "answer_body_digest": hashlib.sha256(self.answer.body).digest()}


def store_from(source: CTE) -> ReturningInsert[tuple[bytes]]:
    """The INSERT that stores one answer for each row of `source`; its parameters are those of an `AnswerToStore`."""
    return _insert_from(source, [column for column in _STORED if column.name != "body_digest"])


def share_from(source: CTE) -> ReturningInsert[tuple[bytes]]:
    """Do as `store_from`, for an answer that changed nothing: its body is stored only where none like it is.

    A body whose use was noted lately is not touched, so that those who use it do not wait for each other.
    """
    bodies = idempotency_bodies.c
    subject_id, digest, body = (
        _parameter(idempotency_records.c[name]) for name in ("subject_id", "body_digest", "body")
    )
    is_noted = exists().where(
        bodies.subject_id == subject_id, bodies.digest == digest, bodies.used_at > func.now() - USE_NOTED
    )
    used = postgresql.insert(idempotency_bodies).from_select(
        [column.name for column in bodies],
        select(subject_id, digest, body, func.now()).select_from(source).where(~is_noted),
    )
    noted = used.on_conflict_do_update(constraint=idempotency_bodies.primary_key, set_={"used_at": func.now()})
    return _insert_from(source, [column for column in _STORED if column.name != "body"]).add_cte(noted.cte("b"))


def _insert_from(source: CTE, columns: list[Column[Any]]) -> ReturningInsert[tuple[bytes]]:
    stored = insert(idempotency_records).from_select(columns, select(*map(_parameter, columns)).select_from(source))
    return stored.returning(idempotency_records.c.digest)


def _parameter(column: Column[Any]) -> ColumnElement[Any]:
    return bindparam(f"answer_{column.name}", type_=column.type)


def stored_answer(row: Any) -> StoredAnswer | None:
    """The answer in a row with ANSWER_COLUMNS; None where there is no record, or one that has lost its body."""
    has_lost_body = row["answer_body_digest"] is not None and row["answer_body"] is None
    if row["answer_status"] is None or has_lost_body:
        return None
    answer = CommandAnswer(row["answer_status"], json.loads(row["answer_headers"]), row["answer_body"])
    return StoredAnswer(answer, row["answer_fingerprint"])
