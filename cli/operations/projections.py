"""What the commands about projections share: the check of a projection's name, and work in the query database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import typer

from chassis.postgres.database import Database
from chassis.settings import PostgresAddress
from cli.terminal.outages import OUTAGES, explain_outage
from cli.terminal.output import fail
from projectors.projections.catalogue import PROJECTIONS

T = TypeVar("T")


def known_projection(name: str | None) -> str | None:
    """Refuse the name of a projection that there is none of; for the callback of an option or argument."""
    if name is not None and name not in PROJECTIONS:
        raise typer.BadParameter(f"there is no projection named {name!r}; there are {', '.join(PROJECTIONS)}")
    return name


def with_query_database(
    address: PostgresAddress,
    work: Callable[[Database], Awaitable[T]],
    *,
    application: str,
    refusals: tuple[type[Exception], ...],
) -> T:
    """Run `work` with the query database; a refusal or an outage ends the command with a message."""

    async def main() -> T:
        async with Database.open(address, application=application) as database:
            return await work(database)

    try:
        return asyncio.run(main())
    except refusals as error:
        fail(str(error))
    except OUTAGES as error:
        explain_outage(error)
