"""Bring the command database to this version of the code."""

import asyncio
from typing import Final

from chassis.postgres.revisions import is_at_newest_revision
from chassis.settings import PostgresAddress

#: A folder of this package, found in a checkout and in an installed wheel alike.
LOCATION: Final = "command_api:migrations"


def migrate(address: PostgresAddress, revision: str = "head") -> list[str]:
    """Apply what is missing and return it, one line a step; harmless to repeat, and while the services run.

    Not callable from inside an event loop.
    """
    if revision == "head" and asyncio.run(is_at_newest_revision(LOCATION, address)):
        return []
    from chassis.postgres.migrations import upgrade  # noqa: PLC0415 - most starts have nothing to migrate, and Alembic is slow

    return upgrade(LOCATION, address, revision)


def revert(address: PostgresAddress, revision: str) -> list[str]:
    """Take the database back to an older revision; `base` drops every table with all that is in it."""
    from chassis.postgres.migrations import downgrade  # noqa: PLC0415 - as above

    return downgrade(LOCATION, address, revision)
