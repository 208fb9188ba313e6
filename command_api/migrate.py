"""Bring the command database to the revision that this version of the code needs."""

import asyncio
from typing import Final

from chassis.postgres.revisions import is_at_newest_revision
from chassis.settings import PostgresAddress

#: A folder of this package, as Alembic finds it in a checkout and in an installed wheel alike.
MIGRATIONS: Final = "command_api:migrations"


def migrate(address: PostgresAddress, revision: str = "head") -> list[str]:
    """Apply the missing steps and give them, one line each; harmless to repeat, and while the services run.

    Not callable from inside an event loop.
    """
    if revision == "head" and asyncio.run(is_at_newest_revision(MIGRATIONS, address)):
        return []
    from chassis.postgres.migrations import upgrade  # noqa: PLC0415 - most starts have nothing to migrate, and Alembic is slow

    return upgrade(MIGRATIONS, address, revision)


def revert(address: PostgresAddress, revision: str) -> list[str]:
    """Take the database back to an older revision; `base` drops every table with all that is in it."""
    from chassis.postgres.migrations import downgrade  # noqa: PLC0415 - as above

    return downgrade(MIGRATIONS, address, revision)
