"""Bring the query database to this version of the code: its own tables, and a first generation of every projection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from chassis.postgres.database import Connection, session
from chassis.postgres.revisions import upgrade_if_older
from chassis.settings import PostgresAddress
from read_model.generations import drop_all, ensure_first

#: A folder of this package, found in a checkout and in an installed wheel alike.
LOCATION: Final = "projectors:migrations"

T = TypeVar("T")


def migrate(address: PostgresAddress, revision: str = "head") -> list[str]:
    """Apply what is missing and return it, one line a step; harmless to repeat, and while the services run.

    Not callable from inside an event loop. Generations are made at the newest revision only.
    """
    steps = upgrade_if_older(LOCATION, address, revision)
    if revision == "head":
        made = asyncio.run(_connected(address, ensure_first))
        steps += [f"{generation.projection} generation {generation.number}" for generation in made]
    return steps


def revert(address: PostgresAddress, revision: str) -> list[str]:
    """Take the database back to an older revision; `base` drops every table, those of generations too."""
    if revision == "base":
        asyncio.run(_connected(address, drop_all))
    from chassis.postgres.migrations import downgrade  # noqa: PLC0415 - Alembic is slow

    return downgrade(LOCATION, address, revision)


async def _connected(address: PostgresAddress, work: Callable[[Connection], Awaitable[T]]) -> T:
    async with session(address, application="muster-migrate", lock_timeout="3s") as connection:
        return await work(connection)
