"""The SQL of the write side, compiled once.

A change is one statement, so one round trip and one transaction: write the user's row, guarded by the version that was
loaded; from the row that was written append the event, and store the answer where the client sent a key. Where no row
was written, no event is appended and no answer stored.
"""

from typing import Any, Final
from uuid import UUID

from sqlalchemy import CTE, Select, Table, bindparam, delete, func, insert, select, update

from chassis.postgres.statements import CompiledStatement, compile_statement
from command_api.credentials.tables import one_time_tokens
from command_api.idempotency.records import (
    ANSWER_COLUMNS,
    DIGEST,
    idempotency_records,
    share_from,
    store_from,
    with_bodies,
)
from command_api.users.rows import PUBLIC_COLUMNS
from command_api.users.tables import erased_users, users
from outbox.append import append_from

_USER_ID: Final = bindparam("user_id", type_=users.c.id.type)
_EXPECTED_VERSION: Final = bindparam("expected_version", type_=users.c.version.type)
#: The columns that are loaded of a user: the public user, the password's hash, and the event that set it.
_LOADED: Final = [
    *(users.c[name] for name in (*PUBLIC_COLUMNS, "password_hash")),
    func.coalesce(users.c.password_set_by, users.c.id).label("password_set_by"),
]


def _parameters(table: Table, prefix: str) -> dict[str, Any]:
    """A parameter `<prefix>_<column>` for each column."""
    return {column.name: bindparam(f"{prefix}_{column.name}", type_=column.type) for column in table.columns}


def _load_all() -> CompiledStatement:
    """The user, the erasure and the stored answer, each where there is one."""
    asked = select(_USER_ID.label("id")).subquery("asked")
    found = (
        asked.outerjoin(users, users.c.id == asked.c.id)
        .outerjoin(erased_users, erased_users.c.id == asked.c.id)
        .outerjoin(idempotency_records, idempotency_records.c.digest == DIGEST)
    )
    return compile_statement(
        select(*_LOADED, erased_users.c.version.label("erased_version"), *ANSWER_COLUMNS).select_from(
            with_bodies(found)
        )
    )


def _insert_user() -> CTE:
    return insert(users).values(_parameters(users, "user")).returning(users.c.id).cte("u")


def _update_user() -> CTE:
    values = _parameters(users, "user")
    identifier = values.pop("id")
    del values["created_at"]
    # Only a change of password brings a hash, and says which event set it.
    for name in ("password_hash", "password_set_by"):
        values[name] = func.coalesce(values[name], users.c[name])
    return (
        update(users)
        .where(users.c.id == identifier, users.c.version == _EXPECTED_VERSION)
        .values(values)
        .returning(users.c.id)
        .cte("u")
    )


def _insert_erased() -> CTE:
    return insert(erased_users).values(_parameters(erased_users, "erased")).returning(erased_users.c.id).cte("u")


def _append(written: CTE) -> CompiledStatement:
    return compile_statement(append_from(written))


def _append_and_store(written: CTE) -> CompiledStatement:
    return compile_statement(append_from(written).add_cte(store_from(written).cte("r")))


def _unchanged(table: Table) -> Select[tuple[UUID]]:
    """The subject of a command that changes nothing, while it is still as it was loaded."""
    subject_id = bindparam("answer_subject_id", type_=table.c.id.type)
    return select(table.c.id).where(table.c.id == subject_id, table.c.version == _EXPECTED_VERSION)


LOAD_USER: Final = compile_statement(select(*_LOADED).where(users.c.id == _USER_ID))
LOAD_ALL: Final = _load_all()
REGISTER: Final = _append(_insert_user())
REGISTER_AND_STORE: Final = _append_and_store(_insert_user())
CHANGE: Final = _append(_update_user())
CHANGE_AND_STORE: Final = _append_and_store(_update_user())
#: The lock keeps an erasure from overlooking the record: either it waits and then finds it, or this finds no user.
STORE_FOR_USER: Final = compile_statement(share_from(_unchanged(users).with_for_update(read=True).cte("u")))
STORE_FOR_ERASED: Final = compile_statement(store_from(_unchanged(erased_users).cte("u")))
ERASE: Final = _append(_insert_erased())
ERASE_AND_STORE: Final = _append_and_store(_insert_erased())
END_TOKENS: Final = compile_statement(delete(one_time_tokens).where(one_time_tokens.c.user_id == _USER_ID))
DELETE_USER: Final = compile_statement(
    delete(users).where(users.c.id == _USER_ID, users.c.version == _EXPECTED_VERSION).returning(users.c.id)
)
