"""Bring the query database to this version of the code: its own tables, and a first generation of every projection."""

from __future__ import annotations

import asyncio
from typing import Final

from chassis.postgres.database import connect, disconnect
from chassis.postgres.revisions import is_at_newest_revision
from chassis.settings import PostgresAddress
from read_model.generations import drop_all, ensure_first

#: A folder of this package, found in a checkout and in an installed wheel alike.
LOCATION: Final = "projectors:migrations"


def migrate(address: PostgresAddress, revision: str = "head") -> list[str]:
    """Apply what is missing and return it, one line a step; harmless to repeat, and while the services run.

    Not callable from inside an event loop. Generations are made at the newest revision only.
    """
    steps = _upgrade(address, revision)
    if revision == "head":
        steps += asyncio.run(_first_generations(address))
    return steps


def revert(address: PostgresAddress, revision: str) -> list[str]:
    """Take the database back to an older revision; `base` drops every table, those of generations too."""
    if revision == "base":
        asyncio.run(_drop_generations(address))
    from chassis.postgres.migrations import downgrade  # noqa: PLC0415 - as below

    return downgrade(LOCATION, address, revision)


def _upgrade(address: PostgresAddress, revision: str) -> list[str]:
    if revision == "head" and asyncio.run(is_at_newest_revision(LOCATION, address)):
        return []
    from chassis.postgres.migrations import upgrade  # noqa: PLC0415 - most starts have nothing to migrate, and Alembic is slow

    return upgrade(LOCATION, address, revision)


async def _drop_generations(address: PostgresAddress) -> None:
    connection = await connect(address, application="muster-migrate", lock_timeout="3s")
    try:
        await drop_all(connection)
    finally:
        await disconnect(connection)


async def _first_generations(address: PostgresAddress) -> list[str]:
    connection = await connect(address, application="muster-migrate", lock_timeout="3s")
    try:
        made = await ensure_first(connection)
    finally:
        await disconnect(connection)
    return [f"{generation.projection} generation {generation.number}" for generation in made]
