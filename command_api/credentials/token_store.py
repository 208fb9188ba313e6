"""One-time tokens in the command database.

A user has at most one of each purpose. Whoever issues one locks the user's row first, as whoever changes the user does;
so a token is issued either before a deactivation, which ends it, or after it, and then is not issued at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, bindparam, case, delete, func, select
from sqlalchemy.dialects import postgresql

from chassis.postgres.database import Connection, Database
from chassis.postgres.errors import begun_again
from chassis.postgres.statements import CompiledStatement, compile_statement
from command_api.credentials.tables import ONE_OF_A_PURPOSE, one_time_tokens
from command_api.credentials.tokens import RESET, KnownToken, Purpose
from command_api.users.rows import PUBLIC_COLUMNS, public_user
from command_api.users.tables import users

Status = Literal["active", "deactivated"]


class TokenEndedError(Exception):
    """The token was redeemed, replaced or ended since it was found."""


def _parameter(name: str) -> Any:
    return bindparam(name, type_=one_time_tokens.c[name].type)


def _bound_to(purpose: ColumnElement[str]) -> ColumnElement[bytes]:
    """The event that a token of this purpose is bound to: the one that set the user's password, or the address."""
    password = func.uuid_send(func.coalesce(users.c.password_set_by, users.c.id))
    return case((purpose == RESET, password), else_=func.sha256(func.convert_to(users.c.email, "UTF8")))


def _issue() -> CompiledStatement:
    """Put a token in the place of the older one, where the user is active; gives the user's status."""
    user = (
        select(users.c.id, users.c.status, _bound_to(_parameter("purpose")).label("bound_to"))
        .where(users.c.id == _parameter("user_id"))
        .with_for_update(key_share=True)
        .cte("u")
    )
    row = select(_parameter("digest"), user.c.id, _parameter("purpose"), user.c.bound_to, _parameter("expires_at"))
    new = postgresql.insert(one_time_tokens).from_select(
        ["digest", "user_id", "purpose", "bound_to", "expires_at"], row.where(user.c.status == "active")
    )
    replacing = new.on_conflict_do_update(
        constraint=ONE_OF_A_PURPOSE,
        set_={name: new.excluded[name] for name in ("digest", "bound_to", "expires_at")},
    )
    return compile_statement(select(user.c.status).add_cte(replacing.cte("issued")))


_ISSUE: Final = _issue()
_FIND: Final = compile_statement(
    select(
        *(users.c[name] for name in PUBLIC_COLUMNS),
        one_time_tokens.c.purpose,
        one_time_tokens.c.expires_at,
        (one_time_tokens.c.bound_to == _bound_to(one_time_tokens.c.purpose)).label("unchanged"),
    )
    .join_from(one_time_tokens, users, one_time_tokens.c.user_id == users.c.id)
    .where(one_time_tokens.c.digest == _parameter("digest"))
)
_END: Final = compile_statement(
    delete(one_time_tokens).where(one_time_tokens.c.digest == _parameter("digest")).returning(one_time_tokens.c.user_id)
)


@dataclass(frozen=True, slots=True)
class TokenStore:
    """One connection and one transaction a call; one that the server rolls back for others is begun again."""

    _database: Database

    @begun_again
    async def issue(self, user_id: UUID, purpose: Purpose, digest: bytes, expires_at: datetime) -> Status | None:
        """Store a token where the user is active, and end the older one; gives the user's status, None of nobody.

        Raises:
            DatabaseUnavailableError: it cannot be asked now; the older token may have ended.
        """
        arguments = _ISSUE.args(user_id=user_id, purpose=purpose, digest=digest, expires_at=expires_at)
        async with self._database.connection() as connection:
            status: Status | None = await connection.fetchval(_ISSUE.sql, *arguments)
            return status

    @begun_again
    async def find(self, digest: bytes) -> KnownToken | None:
        """The token with this digest, and its user.

        Raises:
            DatabaseUnavailableError: it cannot be asked now.
        """
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_FIND.sql, *_FIND.args(digest=digest))
        if row is None:
            return None
        return KnownToken(row["purpose"], row["expires_at"], row["unchanged"], public_user(row))

    @begun_again
    async def end(self, digest: bytes) -> None:
        """End a token whose redemption changes nothing.

        Raises:
            TokenEndedError: it is not there any more.
            DatabaseUnavailableError: it cannot be asked now; the token may have ended.
        """
        async with self._database.connection() as connection:
            await end(connection, digest)


async def end(connection: Connection, digest: bytes) -> None:
    """End a token in the transaction of the change that it allows, behind that change.

    Raises:
        TokenEndedError: it is not there any more.
    """
    if await connection.fetchval(_END.sql, digest) is None:
        raise TokenEndedError
