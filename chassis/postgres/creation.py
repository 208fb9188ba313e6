"""Makes a database that is missing, where its user may: for the commands that set an installation up."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import asyncpg

from chassis.postgres.database import session
from chassis.settings import PostgresAddress

#: A database that every server has, from which others are made.
_MAINTENANCE: Final = "postgres"
#: It copies 7 MB and waits for a checkpoint.
_CREATION_SECONDS: Final = 60.0


class NoDatabaseError(Exception):
    """The database is missing, and its user may not make it; the message says who can, and how."""


async def ensure_database(address: PostgresAddress, *, application: str) -> None:
    """Make the database unless it is there.

    Raises:
        NoDatabaseError: its user may not make it.
        asyncpg.PostgresError, OSError: the server cannot be asked.
    """
    try:
        async with session(address, application=application):
            return
    except asyncpg.InvalidCatalogNameError as missing:
        try:
            await _create(address, application)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidAuthorizationSpecificationError) as error:
            raise NoDatabaseError(
                f"there is no database {address.database}, and {address.user} may not make one: as a superuser"
                f" CREATE DATABASE {_quoted(address.database)}, then try again"
            ) from error
        except asyncpg.InvalidCatalogNameError:
            raise missing from None


async def _create(address: PostgresAddress, application: str) -> None:
    async with session(replace(address, database=_MAINTENANCE), application=application) as connection:
        try:
            await connection.execute(f"CREATE DATABASE {_quoted(address.database)}", timeout=_CREATION_SECONDS)
        except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
            return  # somebody else was faster


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
