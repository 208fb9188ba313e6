"""Bring the command database to the revision that this version of the code needs."""

from typing import Final

from chassis.postgres.revisions import upgrade_if_older
from chassis.settings import PostgresAddress

#: A folder of this package, as Alembic finds it in a checkout and in an installed wheel alike.
MIGRATIONS: Final = "command_api:migrations"


def migrate(address: PostgresAddress, revision: str = "head") -> list[str]:
    """Apply the missing steps and give them, one line each; harmless to repeat, and while the services run.

    Not callable from inside an event loop.
    """
    return upgrade_if_older(MIGRATIONS, address, revision)


def revert(address: PostgresAddress, revision: str) -> list[str]:
    """Take the database back to an older revision; `base` drops every table with all that is in it."""
    from chassis.postgres.migrations import downgrade  # noqa: PLC0415 - Alembic is slow

    return downgrade(MIGRATIONS, address, revision)
