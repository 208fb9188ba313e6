"""`muster roles command|query|all`: makes the roles of PostgreSQL, or checks those that are there."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from typing import Annotated, Final

import typer
from pydantic import SecretStr

from chassis.postgres.creation import NoDatabaseError, ensure_database
from chassis.postgres.database import NO_CONNECTION, describe, session
from chassis.postgres.roles import OWNER, ROLES, DatabaseName, roles_of
from chassis.settings import OwnerCommandPostgres, OwnerQueryPostgres, PostgresAddress, load, variable
from chassis.settings_error import SettingsError
from cli.roles.arrangement import ForeignRightsError, RoleReport, arrange
from cli.roles.scram import PasswordError, verifier
from cli.terminal.databases import DatabaseChoice
from cli.terminal.output import JsonOption, fail, print_json, say

_ERRORS: Final[tuple[type[Exception], ...]] = (ForeignRightsError, NoDatabaseError, *NO_CONNECTION)


def roles(
    database: Annotated[DatabaseChoice, typer.Argument(help="Whose roles.")], *, as_json: JsonOption = False
) -> None:
    """Make the roles of a database with the least rights, or check them; harmless to repeat, also while services run.

    A database that is missing is made first, where POSTGRES_USER may.
    POSTGRES_USER is who makes them: a superuser, or the database's owner with CREATEROLE. Each role's password comes
    from its variable, RELAY_POSTGRES_PASSWORD for muster_relay; where there is none, the role keeps what it has.
    """
    reports: list[RoleReport] = []
    if database in (DatabaseChoice.command, DatabaseChoice.all):
        reports += _run("command", load(OwnerCommandPostgres).command_database)
    if database in (DatabaseChoice.query, DatabaseChoice.all):
        reports += _run("query", load(OwnerQueryPostgres).query_database)
    if as_json:
        print_json([asdict(report) for report in reports])
        return
    for report in reports:
        password = ", password set" if report.password_set else ""
        say(f"{report.database}: {report.role} {'created' if report.created else 'checked'}{password}")


def _run(database: DatabaseName, owner: PostgresAddress) -> list[RoleReport]:
    address, verifiers = _maker(owner), _verifiers(database)
    try:
        return asyncio.run(_arrange(address, database, verifiers))
    except _ERRORS as error:
        fail(f"The roles of the {database} database {address} were not made: {describe(error)}")


async def _arrange(address: PostgresAddress, database: DatabaseName, verifiers: dict[str, str]) -> list[RoleReport]:
    await ensure_database(address, application="muster-roles")
    async with session(address, application="muster-roles") as connection:
        return await arrange(connection, database, verifiers)


def _maker(owner: PostgresAddress) -> PostgresAddress:
    """Who makes the roles. OWNER_POSTGRES_USER is one of them, unless it names somebody else."""
    user, password = variable("POSTGRES_USER"), variable("POSTGRES_PASSWORD")
    if user and password and variable("OWNER_POSTGRES_USER") in (None, OWNER):
        return replace(owner, user=user, password=SecretStr(password))
    return owner


def _verifiers(database: DatabaseName) -> dict[str, str]:
    """The verifier of each role whose variable has a password and is not about another user."""
    found = {}
    for role in roles_of(database):
        prefix, _ = ROLES[role]
        password = variable(f"{prefix}_POSTGRES_PASSWORD")
        if password is None or variable(f"{prefix}_POSTGRES_USER") not in (None, role):
            continue
        try:
            found[role] = verifier(password)
        except PasswordError as error:
            raise SettingsError([f"{prefix}_POSTGRES_PASSWORD {error}"]) from error
    return found
