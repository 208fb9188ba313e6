"""`muster migrate command|query|all`: brings the databases' tables to what this version needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from chassis.postgres.creation import NoDatabaseError, ensure_database
from chassis.postgres.database import NO_CONNECTION, describe, session
from chassis.settings import OwnerCommandPostgres, OwnerQueryPostgres, PostgresAddress, load
from cli.terminal.databases import DatabaseChoice
from cli.terminal.output import JsonOption, fail, print_json, say

if TYPE_CHECKING:
    from chassis.postgres.roles import DatabaseName

_ERRORS: tuple[type[Exception], ...] = (NoDatabaseError, *NO_CONNECTION, SQLAlchemyError)


def migrate(
    database: Annotated[DatabaseChoice, typer.Argument(help="Which database.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Migrate a database to the newest tables; harmless to repeat, and safe while the services run.

    A database that is missing is made first, where its user may.
    """
    report: dict[str, list[str]] = {}
    # Alembic is imported only where it is used.
    if database in (DatabaseChoice.command, DatabaseChoice.all):
        from command_api.migrate import migrate as migrate_command  # noqa: PLC0415 - as above

        report["command"] = _run("command", migrate_command, load(OwnerCommandPostgres).command_database)
    if database in (DatabaseChoice.query, DatabaseChoice.all):
        from projectors.migrate import migrate as migrate_query  # noqa: PLC0415 - as above

        report["query"] = _run("query", migrate_query, load(OwnerQueryPostgres).query_database)
    if as_json:
        print_json(report)
        return
    for name, steps in report.items():
        say(f"{name}: " + (", ".join(steps) if steps else "up to date"))


def _run(name: DatabaseName, migrations: Callable[[PostgresAddress], list[str]], address: PostgresAddress) -> list[str]:
    try:
        asyncio.run(ensure_database(address, application="muster-migrate"))
        steps = migrations(address)
        if steps:
            asyncio.run(give_rights(name, address))
    except _ERRORS as error:
        fail(f"The {name} database {address} could not be migrated: {describe(error)}")
    return steps


async def give_rights(name: DatabaseName, address: PostgresAddress) -> None:
    """Give new tables their owners and rights, where `muster roles` was run."""
    from cli.roles.arrangement import arrange_tables  # noqa: PLC0415 - most starts have nothing to migrate

    async with session(address, application="muster-migrate") as connection:
        await arrange_tables(connection, name)
