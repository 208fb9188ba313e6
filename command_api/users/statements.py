"""The SQL of the write side, compiled once.

A change is one statement, so one round trip and one transaction: write the user's row, guarded by the version that was
loaded; from the row that was written append the event, and store the answer where the client sent a key. Where no row
was written nothing is.
"""

from typing import Any, Final

from sqlalchemy import CTE, Table, bindparam, delete, func, insert, literal_column, null, select, update
from sqlalchemy.sql.dml import Insert

from chassis.postgres.statements import CompiledStatement, compile_statement
from command_api.idempotency.records import idempotency_records
from command_api.users.tables import erased_users, users
from outbox.append import append_from

#: Parameters of a user's columns are `user_<column>`, those of a stored answer `answer_<column>`.
_ANSWER_COLUMNS = [column for column in idempotency_records.columns if column.name != "created_at"]


def _parameters(table: Table, prefix: str) -> dict[str, Any]:
    return {column.name: bindparam(f"{prefix}_{column.name}", type_=column.type) for column in table.columns}


def _insert_user() -> CTE:
    return insert(users).values(_parameters(users, "user")).returning(users.c.id).cte("u")


def _update_user() -> CTE:
    values = _parameters(users, "user")
    identifier = values.pop("id")
    del values["created_at"]
    # Only a change of password brings a hash.
    values["password_hash"] = func.coalesce(values["password_hash"], users.c.password_hash)
    expected = bindparam("expected_version", type_=users.c.version.type)
    return (
        update(users)
        .where(users.c.id == identifier, users.c.version == expected)
        .values(values)
        .returning(users.c.id)
        .cte("u")
    )


def _insert_erased() -> CTE:
    return insert(erased_users).values(_parameters(erased_users, "erased")).returning(erased_users.c.id).cte("u")


def _store_answer(source: CTE) -> Insert:
    parameters = [bindparam(f"answer_{column.name}", type_=column.type) for column in _ANSWER_COLUMNS]
    return insert(idempotency_records).from_select(_ANSWER_COLUMNS, select(*parameters).select_from(source))


def _append(written: CTE) -> CompiledStatement:
    return compile_statement(append_from(written))


def _append_and_store(written: CTE) -> CompiledStatement:
    stored = _store_answer(written).returning(idempotency_records.c.digest).cte("r")
    return compile_statement(append_from(written).add_cte(stored))


def _store_for(table: Table, *, lock: bool) -> CompiledStatement:
    """Store the answer of a command that changes nothing, while what it is about is still as it was loaded.

    The lock keeps an erasure from overlooking the record: either it waits and then finds it, or this finds no user.
    """
    subject = select(table.c.id).where(
        table.c.id == bindparam("answer_subject_id", type_=table.c.id.type),
        table.c.version == bindparam("expected_version", type_=table.c.version.type),
    )
    source = (subject.with_for_update(read=True) if lock else subject).cte("u")
    return compile_statement(_store_answer(source).returning(idempotency_records.c.digest))


REGISTER: Final = _append(_insert_user())
REGISTER_AND_STORE: Final = _append_and_store(_insert_user())
CHANGE: Final = _append(_update_user())
CHANGE_AND_STORE: Final = _append_and_store(_update_user())
STORE_FOR_USER: Final = _store_for(users, lock=True)
STORE_FOR_ERASED: Final = _store_for(erased_users, lock=False)
ERASE: Final = _append(_insert_erased())
ERASE_AND_STORE: Final = _append_and_store(_insert_erased())

DELETE_USER: Final = compile_statement(
    delete(users)
    .where(
        users.c.id == bindparam("user_id", type_=users.c.id.type),
        users.c.version == bindparam("expected_version", type_=users.c.version.type),
    )
    .returning(users.c.id)
)
#: What was answered about the erased is forgotten; that a key was used is not.
FORGET_ANSWERS: Final = compile_statement(
    update(idempotency_records)
    .where(idempotency_records.c.subject_id == bindparam("user_id", type_=users.c.id.type))
    .values(status=410, fingerprint=null(), headers=literal_column("'{}'"), body=null())
)
