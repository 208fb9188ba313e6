"""Whether a database needs a migration at all, without Alembic: importing it takes longer than the answer.

By convention a revision's id is the number that its file's name begins with, and revisions form one line. A test
compares this with what Alembic says.
"""

from __future__ import annotations

import asyncio
from importlib.resources import files
from typing import Final

import asyncpg

from chassis.postgres.database import session
from chassis.settings import PostgresAddress

#: Alembic keeps a database's revision there.
VERSION_QUERY: Final = "SELECT version_num FROM alembic_version"


def newest_revision(location: str) -> str:
    """The id of the newest revision in a folder of migrations, given as Alembic takes it: `package:folder`."""
    package, _, folder = location.partition(":")
    names = [item.name for item in (files(package) / folder / "versions").iterdir()]
    return max(name.partition("_")[0] for name in names if name.endswith(".py") and name[0].isdigit())


def upgrade_if_older(location: str, address: PostgresAddress, revision: str) -> list[str]:
    """Apply the steps that are missing up to a revision or `head`, and return them, one line each.

    Not callable from inside an event loop.
    """
    if revision == "head" and asyncio.run(is_at_newest_revision(location, address)):
        return []
    from chassis.postgres.migrations import upgrade  # noqa: PLC0415 - most starts have nothing to migrate, and Alembic is slow

    return upgrade(location, address, revision)


async def is_at_newest_revision(location: str, address: PostgresAddress) -> bool:
    """Tell whether a database is at the newest revision; a database that was never migrated is not.

    Raises:
        Exception: one of `NO_CONNECTION` where the server is not there.
    """
    async with session(address, application="muster-migrate") as connection:
        try:
            return str(await connection.fetchval(VERSION_QUERY)) == newest_revision(location)
        except asyncpg.UndefinedTableError:
            return False
