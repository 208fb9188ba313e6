"""`muster migrate command|query|all`: brings the databases' tables to what this version needs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from chassis.postgres.database import INFRASTRUCTURE_ERRORS, describe
from chassis.settings import CommandPostgres, PostgresAddress, QueryPostgres, load
from cli.terminal.output import JsonOption, fail, print_json, say

_ERRORS: tuple[type[Exception], ...] = (*INFRASTRUCTURE_ERRORS, SQLAlchemyError)


class DatabaseChoice(StrEnum):
    """Which database to migrate."""

    command = "command"
    query = "query"
    all = "all"


def migrate(
    database: Annotated[DatabaseChoice, typer.Argument(help="Which database.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Migrate a database to the newest tables; harmless to repeat, and safe while the services run."""
    report: dict[str, list[str]] = {}
    if database in (DatabaseChoice.command, DatabaseChoice.all):
        report["command"] = _migrate_command(load(CommandPostgres).command_database)
    if database in (DatabaseChoice.query, DatabaseChoice.all):
        report["query"] = _migrate_query(load(QueryPostgres).query_database)
    if as_json:
        print_json(report)
        return
    for name, steps in report.items():
        say(f"{name}: " + (", ".join(steps) if steps else "up to date"))


def _migrate_command(address: PostgresAddress) -> list[str]:
    from command_api.migrate import migrate as run_migrations  # noqa: PLC0415 - Alembic only where it is used

    try:
        return run_migrations(address)
    except _ERRORS as error:
        fail(f"The command database {address} could not be migrated: {describe(error)}")


def _migrate_query(address: PostgresAddress) -> list[str]:
    from projectors.migrate import migrate as run_migrations  # noqa: PLC0415 - Alembic only where it is used

    try:
        return run_migrations(address)
    except _ERRORS as error:
        fail(f"The query database {address} could not be migrated: {describe(error)}")
